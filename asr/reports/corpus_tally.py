"""Everything that is counted or measured in a corpus, split by split, in one pass over manifests and audio.

In:  manifests, one for each split.
Out: a `Tally`: counts for each split, and a column of numbers, an entry an utterance, for everything that is measured.

Memory holds about 300 bytes an utterance, and each distinct phone, word and speaker. Texts, phones and samples of an
utterance are gone when the next is read. `read_again` gets a few utterances back by their position.
"""

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from string import punctuation
from typing import Any

import numpy as np

from asr.corpus.manifest import Utterance, count_cuts, stream_manifest
from asr.errors import InputError
from asr.reports.corpus_audio import Measures, Part, measure_all
from asr.system.progress import progress

MAX_VALUES = 1000
"""Details of speakers with more different values, such as names of sessions, are counted but not listed."""

MAX_UNUSABLE = 1000
"""So many utterances whose audio cannot be used are named, and the first of each split; all are counted."""

EDGES = punctuation + "“”„‘’«»‹›…–—¿¡。，、？！；：「」『』()"
"""What is no part of a word at its start or end."""

MIN_SPEECH_S = 0.1

COLUMNS = {"position": "q", "split": "i", "speaker": "i", "phones": "i", "duration_s": "d", "text": "q", "part": "q"}
"""Type codes of what the manifest gives; position, text and part (of an audio file) identify. Measures come beside them."""


@dataclass
class SplitCounts:
    """Counts of one split. ``phone_times`` has count, sum, shortest and longest of each phone in seconds."""

    name: str
    utterances: int = 0
    unusable: int = 0
    seconds: float = 0.0
    phones: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    speaker_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sex_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sex_speakers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    detail_seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    formats: Counter[tuple[int, int]] = field(default_factory=Counter)
    phone_times: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Tally:
    """Counts by split, columns by name, the speakers in the order of their numbers, and what cannot be used.

    ``unusable`` has (split, utterance id, message) of the first `MAX_UNUSABLE`.
    """

    manifests: Sequence[Path]
    splits: Sequence[SplitCounts]
    columns: Mapping[str, np.ndarray]
    speakers: Sequence[str]
    unusable: Sequence[tuple[str, str, str]]

    @property
    def training(self) -> int:
        """The number of the training split: the one that is called so, or else the first."""
        return next((number for number, split in enumerate(self.splits) if "train" in split.name.split("/")[-1]), 0)

    def values(self, name: str, split: int | None = None) -> np.ndarray:
        """A column as floating-point numbers without NaN, of one split or all."""
        column = np.asarray(self.columns[name], dtype=np.float64)
        chosen = ~np.isnan(column) if split is None else ~np.isnan(column) & (self.columns["split"] == split)
        return column[chosen]


def tally_corpus(manifests: Sequence[Path], jobs: int) -> Tally:
    """Count and measure every utterance of these manifests.

    Raises:
        InputError: a manifest is missing, damaged, empty or given twice, or no audio of a split can be used.
    """
    names = split_names(manifests)
    total = sum(count_cuts(path) for path in manifests)
    splits = [SplitCounts(name) for name in names]
    columns: dict[str, array[Any]] = {name: array(code) for name, code in COLUMNS.items()}
    columns |= {name: array("q" if name == "samples" else "f") for name in Measures._fields}
    speakers: dict[str, int] = {}
    unusable: list[tuple[str, str, str]] = []
    for position, number, utterance, found in progress(_measured(manifests, jobs), "reading audio", total):
        split = splits[number]
        if isinstance(found, str):
            split.unusable += 1
            if len(unusable) < MAX_UNUSABLE or split.unusable == 1:
                unusable.append((split.name, utterance.id, found))
            continue
        _count(split, utterance, found)
        speaker = speakers.setdefault(utterance.speaker, len(speakers))
        texts = (
            _hash(normalize(utterance)),
            _hash(f"{utterance.audio_path}\0{utterance.start_s}\0{utterance.duration_s}"),
        )
        row = (position, number, speaker, len(utterance.phones), utterance.duration_s, *texts, *found)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    for path, split in zip(manifests, splits, strict=True):
        if not split.utterances:
            reason = next(message for name, _, message in unusable if name == split.name)
            raise InputError(
                f"{path}: 0 of {split.unusable} utterances have usable audio ({reason}), expected at least 1"
            )
    arrays = {name: np.frombuffer(column, column.typecode) for name, column in columns.items()}
    return Tally(manifests, splits, arrays | _derive(arrays), list(speakers), unusable)


def _derive(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns that follow from others: seconds between the silences at the ends, and phones per second of these."""
    speech_s = columns["duration_s"] - columns["start_silence_s"] - columns["end_silence_s"]
    speech_s = np.maximum(speech_s, MIN_SPEECH_S)
    return {"speech_s": speech_s, "phones_per_s": columns["phones"] / speech_s}


def split_names(manifests: Sequence[Path]) -> list[str]:
    """Names of the splits: what follows ``cuts_`` in the file names, after the folder's name where these are equal.

    Raises:
        InputError: a manifest is given twice.
    """
    for path in manifests:
        if sum(path.resolve() == other.resolve() for other in manifests) > 1:
            raise InputError(f"{path}: given twice, expected different manifests")
    names = [path.name.split(".")[0].removeprefix("cuts_") for path in manifests]
    if len(set(names)) == len(names):
        return names
    parents = [f"{path.resolve().parent.name}/{name}" for path, name in zip(manifests, names, strict=True)]
    return parents if len(set(parents)) == len(parents) else [str(path) for path in manifests]


def read_again(manifests: Sequence[Path], positions: Collection[int]) -> dict[int, Utterance]:
    """Read the utterances at these positions, counted from the start of the first manifest."""
    utterances = chain.from_iterable(stream_manifest(path, check_audio=False) for path in manifests)
    return {position: _clean(one) for position, one in enumerate(utterances) if position in positions}


def read_usable(tally: Tally) -> Iterator[Utterance]:
    """Read the utterances of a tally once more, in the order of its rows."""
    usable = set(tally.columns["position"].tolist())
    utterances = (utterance for path in tally.manifests for utterance in _read(path))
    return (utterance for position, utterance in enumerate(utterances) if position in usable)


def normalize(utterance: Utterance) -> str:
    """The words of an utterance as they are compared: without case and punctuation; its phones if it has no words."""
    return " ".join(words_of(utterance)) or " ".join(utterance.phones)


def words_of(utterance: Utterance) -> list[str]:
    """The words of an utterance, without case and without punctuation at their ends."""
    stripped = (word.strip(EDGES) for word in utterance.words.casefold().split())
    return [word for word in stripped if word]


def _measured(manifests: Sequence[Path], jobs: int) -> Iterator[tuple[int, int, Utterance, Measures | str]]:
    """Yield position, number of the split, utterance and measures of every utterance."""
    waiting: deque[tuple[int, int, Utterance]] = deque()

    def parts() -> Iterator[Part]:
        position = 0
        for number, path in enumerate(manifests):
            for utterance in _read(path):
                waiting.append((position, number, utterance))
                position += 1
                yield Part(utterance.audio_path, utterance.start_s, utterance.duration_s)

    for found in measure_all(parts(), jobs):
        yield *waiting.popleft(), found


def _read(path: Path) -> Iterator[Utterance]:
    """Read the utterances of a manifest one after another. Missing audio is found when it is measured.

    Raises:
        InputError: as `asr.corpus.manifest.read_manifest`, but for missing audio.
    """
    seen: set[int] = set()
    for utterance in map(_clean, stream_manifest(path, check_audio=False)):
        if (key := _hash(utterance.id)) in seen:
            raise InputError(f"{path}: utterance id {utterance.id} occurs twice, expected once")
        seen.add(key)
        yield utterance


def _clean(utterance: Utterance) -> Utterance:
    """Replace halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return replace(
        utterance,
        id=_printable(utterance.id),
        speaker=_printable(utterance.speaker),
        words=_printable(utterance.words),
        phones=tuple(map(_printable, utterance.phones)),
        details={_printable(name): _printable(value) for name, value in utterance.details.items()},
    )


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _count(split: SplitCounts, utterance: Utterance, found: Measures) -> None:
    """Add an utterance to the counts of its split."""
    seconds, sex = utterance.duration_s, {"f": "female", "m": "male"}.get(utterance.sex.casefold()[:1], "not given")
    split.utterances += 1
    split.seconds += seconds
    split.phones.update(utterance.phones)
    split.words.update(words_of(utterance))
    split.speaker_seconds[utterance.speaker] += seconds
    split.sex_seconds[sex] += seconds
    split.sex_speakers[sex].add(utterance.speaker)
    split.formats[(found.rate_hz, found.channels)] += 1
    for name, value in utterance.details.items():
        values = split.detail_seconds.setdefault(name, defaultdict(float))
        if value in values or len(values) <= MAX_VALUES:
            values[value] += seconds
    for phone, (start_s, end_s) in zip(utterance.phones, utterance.phone_times_s or (), strict=False):
        length_s = end_s - start_s
        times = split.phone_times.setdefault(phone, [0, 0.0, length_s, length_s])
        times[:] = [times[0] + 1, times[1] + length_s, min(times[2], length_s), max(times[3], length_s)]


def _hash(text: str) -> int:
    """A 64-bit hash, 0 for no text."""
    content = text.encode("utf-8", "replace")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True) if text else 0
