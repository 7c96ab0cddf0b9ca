"""Counts of a corpus, collected part by part and added up: what ``stats.json`` says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from asr.corpus.manifest import Utterance, split_statistics
from data_prep.entries import SPLITS, LeftOut


@dataclass
class SplitTally:
    """The utterances of one split. ``words`` counts words of the texts, not distinct ones."""

    utterances: int = 0
    duration_s: float = 0.0
    words: int = 0
    speakers: dict[str, None] = field(default_factory=dict)
    phones: Counter[str] = field(default_factory=Counter)
    sample_rates_hz: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)

    def add(self, utterance: Utterance, channels: int) -> None:
        """Count an utterance."""
        self.utterances += 1
        self.duration_s += utterance.duration_s
        self.words += len(utterance.words.split())
        self.speakers[utterance.speaker] = None
        self.phones.update(utterance.phones)
        self.sample_rates_hz[str(utterance.sample_rate_hz)] += 1
        self.channels[str(channels)] += 1

    def summary(self) -> dict[str, object]:
        """The statistics of the split: those of every corpus, words and channels."""
        common = split_statistics(self.utterances, self.speakers, self.duration_s, self.phones, self.sample_rates_hz)
        return common | {"words": self.words, "channels": dict(sorted(self.channels.items()))}


@dataclass
class Tally:
    """The utterances of all splits, and of the spelling.

    ``left_out`` and ``firsts`` have the number and the first place of each reason; ``sources``, ``missing`` and ``dropped``
    are those of `data_prep.spelling.Speller`. ``shortened`` counts utterances that end just beyond their audio.
    """

    splits: dict[str, SplitTally] = field(default_factory=lambda: {split: SplitTally() for split in SPLITS})
    left_out: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    shortened: int = 0

    def leave_out(self, left_out: LeftOut) -> None:
        """Count something that is left out."""
        self.left_out[left_out.reason] += 1
        self.firsts.setdefault(left_out.reason, left_out.where)

    def join(self, later: "Tally") -> None:
        """Add the counts of a later part."""
        for name, split in later.splits.items():
            for item in fields(SplitTally):
                _add(self.splits[name], item.name, getattr(split, item.name))
        for item in fields(Tally):
            if item.name not in ("splits", "firsts"):
                _add(self, item.name, getattr(later, item.name))
        self.firsts = later.firsts | self.firsts

    def statistics(self, notes: Sequence[str]) -> dict[str, object]:
        """The content of ``stats.json``: that of every corpus, and what the spelling counted."""
        return {
            "splits": {name: split.summary() for name, split in self.splits.items() if split.utterances},
            "distinct_utterances": self.utterances,
            "left_out": dict(sorted(self.left_out.items())),
            "notes": list(notes),
            "pronounced_by": dict(sorted(self.sources.items())),
            "words_without_pronunciation": {"distinct": len(self.missing), "all": self.missing.total()},
            "dropped_characters": dict(sorted(self.dropped.items())),
        }

    def to_json(self) -> dict[str, object]:
        """The counts for `tally_from_json`."""
        return {**vars(self), "splits": {name: vars(split) for name, split in self.splits.items()}}

    @property
    def utterances(self) -> int:
        """Utterances in all splits."""
        return sum(split.utterances for split in self.splits.values())

    def notes(self) -> list[str]:
        """A note on each property of the audio that is mixed or was changed."""
        rates: Counter[str] = sum((split.sample_rates_hz for split in self.splits.values()), Counter())
        channels: Counter[str] = sum((split.channels for split in self.splits.values()), Counter())
        notes = []
        if len(rates) > 1:
            each = ", ".join(f"{rates[rate]} at {rate} Hz" for rate in sorted(rates, key=int))
            notes.append(f"mixed sample rates: {each}; audio is resampled when it is read")
        if set(channels) - {"1"}:
            each = ", ".join(f"{channels[number]} with {number}" for number in sorted(channels, key=int))
            notes.append(f"channels: {each}; channels are averaged when audio is read")
        if self.shortened:
            notes.append(f"{self.shortened} utterances end less than 0.01 s beyond their audio, now at its end")
        return notes


def tally_from_json(content: Mapping[str, Any]) -> Tally:
    """Counts from what `Tally.to_json` gave."""
    counts = {name: Counter(content[name]) for name in ("left_out", "sources", "missing", "dropped")}
    splits = {name: _split_from_json(content["splits"][name]) for name in SPLITS}
    return Tally(splits, firsts=dict(content["firsts"]), shortened=int(content["shortened"]), **counts)


def _split_from_json(content: Mapping[str, Any]) -> SplitTally:
    counters = {name: Counter(content[name]) for name in ("phones", "sample_rates_hz", "channels")}
    return SplitTally(**{**content, **counters})


def _add(target: object, name: str, value: Any) -> None:
    """Add a number, or the items of a counter or dict, to a field."""
    if isinstance(value, dict):
        getattr(target, name).update(value)  # of a Counter this adds
    else:
        setattr(target, name, getattr(target, name) + value)
