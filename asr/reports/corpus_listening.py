"""The sections of the page about a corpus in which one listens: suspicious utterances, and some at random.

In:  a `Tally` and the suspicions about it.
Out: sections of `asr.reports.page`, with the first seconds of utterances as MP3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.reports.corpus_audio import MAX_CLIP_S, Part, make_clip
from asr.reports.corpus_suspicions import Suspicion
from asr.reports.corpus_tables import CorpusTable
from asr.reports.corpus_tally import MAX_UNUSABLE, Tally, read_again
from asr.reports.page import Section

MAX_LISTED = 1000
"""Utterances of each kind in suspicious.csv; all are counted."""

SHOWN_PER_KIND = 5
RANDOM = 12
RANDOM_SEED = 1
MAX_TEXT = 50
CLIPS = f"Clips end after {MAX_CLIP_S:g}\u00a0s."


@dataclass(frozen=True)
class Sound:
    """A cell that plays a clip on the page and names the audio file in the CSV file."""

    clip: str
    path: str

    def __str__(self) -> str:
        return self.path

    def __html__(self) -> str:
        player = '<audio controls preload="none" style="width:min(12rem,34vw);height:2rem;display:block"'
        return f'{player} src="{self.clip}"></audio>' if self.clip else ""


@dataclass(frozen=True)
class Found:
    """An utterance, its row in the tally and what is suspicious about it."""

    row: int
    utterance: Utterance
    split: str
    reason: str


def listening_sections(tally: Tally, suspicions: Sequence[Suspicion]) -> list[Section]:
    """Suspicious utterances, audio that cannot be used, and utterances at random."""
    chosen = _choose_randomly(tally)
    rows = {int(row) for one in suspicions for row in [*one.rows[:MAX_LISTED], *one.others[:MAX_LISTED]]} | set(chosen)
    positions = tally.columns["position"]
    row_of = {int(positions[row]): row for row in rows}
    utterances = {row_of[position]: found for position, found in read_again(tally.manifests, row_of.keys()).items()}
    sections = [_suspicious(tally, suspicions, utterances), *_unusable(tally)]
    names = [split.name for split in tally.splits]
    split_of = tally.columns["split"]
    examples = [
        [*_listen(utterances[row]), *_about(utterances[row], names[split_of[row]])]
        + [float(tally.columns[name][row]) for name in ("level_db", "snr_db")]
        + [_shorten(utterances[row].words)]
        for row in chosen
    ]
    header = ["audio", "utterance", "split", "speaker", "s", "level, dB", "SNR, dB", "text"]
    return [*sections, Section("Utterances at random", [CLIPS], tables=[CorpusTable("random", header, examples)])]


def _choose_randomly(tally: Tally) -> list[int]:
    """The rows of some utterances of each split, the same each time."""
    generator = np.random.default_rng(RANDOM_SEED)
    each = max(1, RANDOM // len(tally.splits))
    chosen: list[int] = []
    for number in range(len(tally.splits)):
        rows = np.flatnonzero(tally.columns["split"] == number)
        chosen += sorted(generator.choice(rows, min(each, len(rows)), replace=False).tolist())
    return chosen


def _suspicious(tally: Tally, suspicions: Sequence[Suspicion], utterances: Mapping[int, Utterance]) -> Section:
    names = [split.name for split in tally.splits]
    split_of = tally.columns["split"]
    rows: list[list[Any]] = [
        [one.title, *np.bincount(split_of[one.rows], minlength=len(names)).tolist(), one.rule] for one in suspicions
    ]
    kinds = CorpusTable("suspicions", ["kind", *names, "rule"], rows)
    listed, shown = [], []
    for one in suspicions:
        for number, row in enumerate(one.rows[:MAX_LISTED].tolist()):
            utterance = utterances[row]
            other = _other_name(one, number, split_of, names, utterances)
            reason = one.reason(float(one.values[number]), other)
            about = _about(utterance, names[split_of[row]])
            listed.append([one.title, reason, utterance.words, *about, str(utterance.audio_path)])
            if number < SHOWN_PER_KIND:
                shown.append([*_listen(utterance), reason, _shorten(utterance.words), *about])
    header = ["kind", "reason", "text", "utterance", "split", "speaker", "s"]
    tables = [kinds, CorpusTable("suspicious", [*header, "file"], listed, shown=False)]
    if not listed:
        return Section("Suspicious utterances", ["None of these was found."], tables=[kinds])
    complete = all(len(one.rows) <= MAX_LISTED for one in suspicions)
    everything = "all" if complete else f"the {MAX_LISTED:,} worst of each"
    text = [
        "What is unusual need not be wrong. An utterance may be of several kinds.",
        f"The {SHOWN_PER_KIND} worst of each kind follow. figures/suspicious.csv lists {everything}. {CLIPS}",
    ]
    return Section("Suspicious utterances", text, tables=[*tables, CorpusTable("worst", ["audio", *header[1:]], shown)])


def _other_name(
    one: Suspicion, number: int, split_of: np.ndarray, names: Sequence[str], utterances: Mapping[int, Utterance]
) -> str:
    """The utterance that another one is compared with, with its split if it is in another."""
    if len(one.others) == 0:
        return ""
    row, other = int(one.rows[number]), int(one.others[number])
    elsewhere = f" in {names[split_of[other]]}" if split_of[other] != split_of[row] else ""
    return f"{utterances[other].id}{elsewhere}"


def _unusable(tally: Tally) -> list[Section]:
    count = sum(split.unusable for split in tally.splits)
    if not count:
        return []
    text = [f"{count:,} utterances are in no figure of this page."]
    if count > MAX_UNUSABLE:
        text.append(f"The first {MAX_UNUSABLE:,} of them:")
    header = ["split", "utterance", "reason"]
    return [Section("Audio that cannot be used", text, tables=[CorpusTable("unusable", header, tally.unusable)])]


def _listen(utterance: Utterance) -> list[Sound]:
    try:
        clip = make_clip(Part(utterance.audio_path, utterance.start_s, utterance.duration_s))
    except InputError:  # the first seconds are zeros
        clip = ""
    return [Sound(clip, str(utterance.audio_path))]


def _about(utterance: Utterance, split: str) -> list[Any]:
    return [utterance.id, split, utterance.speaker, utterance.duration_s]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\u2026"
