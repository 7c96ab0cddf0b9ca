"""A recording of a folder, with its TextGrid or text -> entries.

A **text** has the words of the whole recording. A **TextGrid** has, see `data_prep.tiers`:

- tiers of words and phones, as the Montreal Forced Aligner and MAUS write them, or of phones alone. The words of these come
  from a .lab or .txt beside the TextGrid. A tier of utterances says where to cut. Without one, the recording is cut at its
  pauses if it has several speakers or lasts more than `data_prep.tiers.MAX_WHOLE_S`.
- or a tier for each speaker, with the words of each utterance in an interval, as the aligner reads them.

Phones in gaps are dropped. What has a word without known phones (``spn``) is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.fields import normalize
from data_prep.textgrid import TextGrid, read_text, read_textgrid
from data_prep.tiers import (
    MAX_WHOLE_S,
    TOLERANCE_S,
    Stretch,
    TierGroup,
    divide,
    find_fault,
    find_unusable_phone,
    group_tiers,
    is_too_long,
    outside,
    relative_times,
    span_id,
)

TEXT_SUFFIXES = (".textgrid", ".lab", ".txt")
"""If a recording has several texts, the first of these is read."""

MAX_CHARACTERS = 100_000
"""Longest text of an utterance: two hours of speech have about as much."""


@dataclass(frozen=True)
class RecordingFiles:
    """The files of a recording: its audio, and its texts, one at least, in the order of `TEXT_SUFFIXES`."""

    id: str
    audio_path: Path
    texts: tuple[Path, ...]
    speaker: str
    split: str


def read_texts(recording: RecordingFiles, name_speaker: Callable[[str], str]) -> Iterator[Entry | LeftOut]:
    """Yield the utterances of a recording; ``name_speaker`` turns the name of a tier into that of a speaker."""
    path, *others = recording.texts
    if path.suffix.lower() == ".textgrid":
        try:
            grid = read_textgrid(path)
        except InputError as error:
            yield LeftOut(str(error), "TextGrid that is not readable")
        else:
            groups, doubled = group_tiers(grid.tiers)
            yield from (LeftOut(f"{path}: tier {tier.name!r}", "second tier of the same kind") for tier in doubled)
            words: str | LeftOut = ""
            if others and len(groups) == 1 and groups[0].tiers == (groups[0].phones,) and grid.end_s <= MAX_WHOLE_S:
                words = read_words(others.pop(0))
            if isinstance(words, LeftOut):
                yield words
                words = ""
            yield from _read_tiers(recording, grid, groups, words, name_speaker)
    else:
        words = read_words(path)
        if isinstance(words, LeftOut):
            yield words
        else:
            yield _make_entry(recording, recording.id, recording.speaker, Stretch(0.0, None, words, None))
    yield from (LeftOut(str(other), "second text of a recording") for other in others)


def read_words(path: Path) -> str | LeftOut:
    """Read a text as one line, or say why it cannot be read."""
    try:
        return normalize(read_text(path))
    except InputError as error:
        return LeftOut(str(error), "text that is not readable")


def _read_tiers(
    recording: RecordingFiles, grid: TextGrid, groups: list[TierGroup], words: str, name_speaker: Callable[[str], str]
) -> Iterator[Entry | LeftOut]:
    """Yield the utterances of each speaker in a TextGrid. ``words`` are those of a recording that has phones alone."""
    path = recording.texts[0]
    if abs(grid.start_s) > TOLERANCE_S:
        yield LeftOut(f"{path}: starts at {grid.start_s:g} s", "TextGrid that does not start at 0")
        return
    if not groups:
        yield LeftOut(str(path), "TextGrid without a tier of words, phones or utterances")
    for group in groups:
        if fault := next(filter(None, (find_fault(str(path), tier, grid.end_s) for tier in group.tiers)), None):
            yield fault
            continue
        speaker = name_speaker(group.speaker) if group.speaker else recording.speaker
        name = recording.id if len(groups) == 1 else f"{recording.id}-{speaker}"
        empty = True
        for stretch in divide(group, grid, whole=len(groups) == 1):
            empty = False
            if group.utterances is None and is_too_long(stretch.start_s, stretch.end_s):
                yield LeftOut(f"{path}: from {stretch.start_s:g} s", "long speech without a pause")
            else:
                yield _make_entry(recording, name, speaker, stretch._replace(words=words or stretch.words))
        if empty:
            yield LeftOut(f"{path}: speaker {speaker}", "tier without labels")
        if count := outside(group):
            yield LeftOut(
                f"{path}: speaker {speaker}: {count} labels", "labels outside the utterances of their speaker"
            )


def _make_entry(recording: RecordingFiles, name: str, speaker: str, stretch: Stretch) -> Entry | LeftOut:
    """The entry of a part of a recording, or why there is none."""
    start_s, end_s, words, phones = stretch
    where = str(recording.texts[0]) if end_s is None else f"{recording.texts[0]}: {start_s:g} s to {end_s:g} s"
    if phones is not None and (problem := find_unusable_phone(phones)):
        return LeftOut(f"{where}: {problem[0]}", problem[1])
    if phones is None and not words:
        return LeftOut(where, "text without words")
    if len(words) > MAX_CHARACTERS:
        return LeftOut(f"{where}: {len(words)} characters", "text too long for an utterance")
    return Entry(
        id=name if end_s is None else span_id(name, start_s, end_s),
        audio_path=recording.audio_path,
        speaker=speaker,
        where=where,
        words=words,
        phones=None if phones is None else tuple(phone.label for phone in phones),
        phone_times_s=None if phones is None else relative_times(phones, start_s, end_s),
        start_s=start_s,
        end_s=end_s,
        split=recording.split,
    )
