"""One utterance: its words and their pronunciations -> intervals of words and phones, or the reason why it does not fit.

`UtteranceAligner` goes from features and log-probabilities to intervals. The phones come from `align_pronunciations`, their
times from the recognizer, as in `asr align` of one file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from asr.errors import InputError
from asr.inference.align_pronunciations import ChosenPath, choose_pronunciations
from asr.inference.recognizer import Recognizer
from asr.inference.result_files import Problem
from asr.inference.transcript_formats import Phone
from asr.inference.verify import compute_fit, recognize_tokens

POOR_FIT = 0.2
"""An utterance whose text fits its audio worse is left out: its boundaries would mean nothing. `asr verify` is stricter."""

Pronunciation = tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """An utterance to align: a part of an audio file, its words, and the pronunciations of each, [] if there are none.

    ``phones`` are those that the corpus gives; None lets the alignment choose among the pronunciations. ``end_s`` None is
    the end of the file.
    """

    id: str
    audio_path: Path
    words: tuple[str, ...]
    pronunciations: tuple[tuple[Pronunciation, ...], ...] = ()
    phones: Pronunciation | None = None
    start_s: float = 0.0
    end_s: float | None = None
    speaker: str = ""


class Interval(NamedTuple):
    """A word or phone, from ``start_s`` to ``end_s`` in its recording."""

    label: str
    start_s: float
    end_s: float


class MisfitError(Exception):
    """An utterance cannot be aligned: the reason, and particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """The fields of `Problem`."""
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Aligned:
    """The intervals of an utterance's words and phones, in order; and stretches that do not fit, if it is a long one."""

    words: tuple[Interval, ...]
    phones: tuple[Interval, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A word, or the whole text if only its phones are known: its label and its pronunciations as symbol ids."""

    label: str
    pronunciations: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class UtteranceAligner:
    """Aligns utterances with one recognizer. ``weights``, (symbols,) float64: how frequent phones are in the corpus."""

    recognizer: Recognizer
    weights: np.ndarray
    encoded: dict[Pronunciation, tuple[int, ...] | None] = field(default_factory=dict)

    def without_padding(self) -> "UtteranceAligner":
        """The same aligner, for parts of a recording that begin and end in its midst."""
        return replace(self, recognizer=self.recognizer.without_padding())

    def units(self, item: Item) -> list[Unit]:
        """The words of an utterance with the pronunciations that the model knows.

        Raises:
            MisfitError: nothing to align, a phone that the model lacks, or a word without a pronunciation.
        """
        if item.phones is not None:
            return self._units_of_phones(item)
        units = self.known_units(item)
        missing = [unit.label for unit in units if not unit.pronunciations]
        if not units:
            raise MisfitError("no words")
        if missing:
            raise MisfitError("no pronunciation", " ".join(dict.fromkeys(missing)))
        return units

    def known_units(self, item: Item) -> list[Unit]:
        """The words of an utterance. Words without a pronunciation that the model knows have none."""
        return [
            Unit(word, tuple(ids for each in pronunciations if (ids := self.encode(each))))
            for word, pronunciations in zip(item.words, item.pronunciations, strict=True)
        ]

    def _units_of_phones(self, item: Item) -> list[Unit]:
        """The words of an utterance with the corpus's own phones, or all of it as one unit if they agree with no words."""
        phones = item.phones or ()
        unknown = [phone for phone in phones if self.encode((phone,)) is None]
        if unknown:
            raise MisfitError("phones that the model lacks", " ".join(dict.fromkeys(unknown)))
        parts = split_phones(phones, item.pronunciations) if len(item.pronunciations) == len(item.words) else None
        if parts is None:
            parts, labels = [phones], [" ".join(item.words)]
        else:
            labels = list(item.words)
        units = [Unit(label, (self.encode(part) or (),)) for label, part in zip(labels, parts, strict=True)]
        if not all(unit.pronunciations[0] for unit in units):
            raise MisfitError("no phones")
        return units

    def encode(self, pronunciation: Pronunciation) -> tuple[int, ...] | None:
        """The symbol ids of a pronunciation, None if the model lacks one of its phones."""
        if pronunciation not in self.encoded:
            try:
                self.encoded[pronunciation] = tuple(self.recognizer.bundle.inventory.encode(pronunciation, ""))
            except InputError:
                self.encoded[pronunciation] = None
        return self.encoded[pronunciation]

    def align(
        self, units: Sequence[Unit], features: Tensor, log_probs: Tensor, start_s: float, duration_s: float
    ) -> Aligned:
        """Find the intervals of words in a stretch of audio that starts at ``start_s`` of its recording.

        ``features`` are normalized, (frames, dim); ``log_probs`` are (output frames, symbols), natural log.

        Raises:
            MisfitError: the text is too long for the audio, or belongs to other audio.
        """
        path = choose_pronunciations(log_probs, [unit.pronunciations for unit in units])
        if path is None:
            shortest = sum(min(map(len, unit.pronunciations)) for unit in units)
            raise MisfitError("text too long for the audio", f"{shortest} phones or more in {duration_s:.2f} s")
        fit = compute_fit(log_probs, path.tokens, recognize_tokens(log_probs), self.weights)
        if fit.value < POOR_FIT:
            raise MisfitError("text does not fit the audio", f"fit {fit.value:.2f}, expected {POOR_FIT} or more")
        transcript = self.recognizer.place(features, log_probs, path.tokens, path.spans, duration_s)
        return Aligned(*_intervals(units, path, transcript.phones, start_s))


def _intervals(
    units: Sequence[Unit], path: ChosenPath, phones: Sequence[Phone], start_s: float
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """The intervals of words, from their first phone to their last, and of phones."""
    timed = [Interval(phone.symbol, start_s + phone.start_s, start_s + phone.end_s) for phone in phones]
    words, done = [], 0
    for unit, choice in zip(units, path.choices, strict=True):
        own = timed[done : done + len(unit.pronunciations[choice])]
        done += len(own)
        if unit.label:
            words.append(Interval(unit.label, own[0].start_s, own[-1].end_s))
    return tuple(words), tuple(timed)


def split_phones(phones: Pronunciation, words: Iterable[Sequence[Pronunciation]]) -> list[Pronunciation] | None:
    """Split phones into one pronunciation of each word, the first that fits; None if no pronunciations give the phones."""
    reached: dict[int, tuple[Pronunciation, ...]] = {0: ()}
    for pronunciations in words:
        following: dict[int, tuple[Pronunciation, ...]] = {}
        for start, parts in reached.items():
            for each in pronunciations:
                if each and phones[start : start + len(each)] == each:
                    following.setdefault(start + len(each), (*parts, each))
        reached = following
    return list(reached[len(phones)]) if len(phones) in reached else None
