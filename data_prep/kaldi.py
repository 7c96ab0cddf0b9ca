"""Kaldi data directories: ``wav.scp``, ``utt2spk`` and ``text``, with or without ``segments`` and ``spk2gender``.

A folder of several such directories gives the splits by their names: ``train``, ``dev``, ``test``, or names that begin so.
Tables that are sorted, as Kaldi demands, are read side by side in little memory. If one is not, all are read into memory.
"""

import heapq
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path

from asr.errors import InputError
from data_prep.checking import warn
from data_prep.entries import Entry, LeftOut
from data_prep.fields import locate, normalize, parse_seconds, parse_split, to_name
from data_prep.lines import stream_lines

PROBED_PATHS = 100
"""Relative paths of ``wav.scp`` that are tried in a folder to see whether they start there."""

OFFSET = re.compile(r"\.\w+:\d+(\[[^]]*\])?$")
"""The end of an entry that points into an archive: a.ark:123"""

FIELDS = re.compile(r"[ \t]+")

Row = tuple[str, str, str]
"""Key, table, value."""


def read_kaldi(source: Path, text_is_phones: bool = False) -> Iterator[Entry | LeftOut]:
    """Read a data directory, or the data directories in a folder.

    Relative paths start at the data directory, or at the nearest folder above it where they exist: Kaldi's own recipes
    write them relative to the recipe.

    Args:
        source: folder with ``wav.scp``, or with folders that have it.
        text_is_phones: ``text`` has phones instead of words.

    Raises:
        InputError: a table is missing or not UTF-8; ``wav.scp`` has a command, an archive, or paths that exist nowhere.
    """
    source = source.absolute()
    if (source / "wav.scp").is_file():
        yield from _read_directory(source, "", text_is_phones)
        return
    directories = sorted(path.parent for path in source.glob("*/wav.scp"))
    if not directories:
        raise InputError(f"{source}: no wav.scp in it or in a folder of it, expected a Kaldi data directory")
    splits = {directory: parse_split(directory.name) for directory in directories}
    for directory, split in splits.items():
        if split or not any(splits.values()):
            yield from _read_directory(directory, split, text_is_phones)
        else:
            yield LeftOut(str(directory), "data directory not named train, dev or test")


@dataclass
class _Recordings:
    """Where the audio of utterances is: ``paths`` of recordings if there are ``segments``, and those that were ``used``."""

    directory: Path
    segmented: bool
    paths: dict[str, str]
    used: set[str] = field(default_factory=set)

    def find(self, value: str) -> tuple[str, float, float | None] | str:
        """Find the path, start and end in seconds for a value of wav.scp or segments, or say why there is none."""
        if not self.segmented:
            return _check_path(self.directory, value), 0.0, None
        segment = _parse_segment(value)
        if segment is None:
            return "malformed segment"
        recording, start_s, end_s = segment
        if recording not in self.paths:
            return "segment of a recording that wav.scp lacks"
        self.used.add(recording)
        return _check_path(self.directory, self.paths[recording]), start_s, end_s


def _read_directory(directory: Path, split: str, text_is_phones: bool) -> Iterator[Entry | LeftOut]:
    """Read the utterances of one data directory, in the order of their ids."""
    base = _find_base(directory)
    segmented = (directory / "segments").exists()
    paths, left_out = _read_small(directory / "wav.scp") if segmented else ({}, [])
    sexes, more_left_out = _read_small(directory / "spk2gender") if (directory / "spk2gender").exists() else ({}, [])
    yield from left_out + more_left_out
    _check_sexes(directory, sexes)
    recordings = _Recordings(directory, segmented, paths)
    for utterance, rows in _merge(directory, ("segments" if segmented else "wav.scp", "utt2spk", "text")):
        if isinstance(rows, LeftOut):
            yield rows
            continue
        where = f"{directory}: utterance {utterance}"
        values = {table: value for _, table, value in rows}
        audio = recordings.find(values.get("segments", values.get("wav.scp", "")))
        audio = _find_fault(rows) or audio
        if isinstance(audio, str):
            yield LeftOut(where, audio)
            continue
        text = normalize(values["text"])
        yield Entry(
            id=utterance,
            audio_path=locate(base, audio[0]),
            speaker=to_name(values["utt2spk"]),
            where=where,
            words="" if text_is_phones else text,
            phones=tuple(text.split()) if text_is_phones else None,
            start_s=audio[1],
            end_s=audio[2],
            sex=sexes.get(normalize(values["utt2spk"]), ""),
            split=split,
        )
    for recording in sorted(paths.keys() - recordings.used):
        yield LeftOut(f"{directory}: recording {recording}", "recording without segments")


def _find_fault(rows: Sequence[Row]) -> str | None:
    """Return why the rows of one utterance, from all tables, make no entry; None if they do."""
    values = {table: value for _, table, value in rows}
    tables = [table for _, table, _ in rows]
    twice = [table for table in values if tables.count(table) > 1]
    if twice:
        return f"id that occurs twice in {twice[0]}"
    if not values.get("wav.scp", values.get("segments")):
        return "text without audio" if values.get("text") else "speaker without audio and text"
    if not values.get("text"):
        return "audio without text"
    return None if values.get("utt2spk") else "no speaker in utt2spk"


def _merge(directory: Path, tables: Sequence[str]) -> Iterator[tuple[str, list[Row] | LeftOut]]:
    """Yield the rows of all tables grouped by key, in the order of the keys; what no row can be made from comes between."""
    problems: list[LeftOut] = []
    streams = [_stream_rows(directory / table, problems) for table in tables]
    if all(_is_sorted(directory / table) for table in tables):
        rows: Iterator[Row] = heapq.merge(*streams, key=itemgetter(0))
    else:
        rows = iter(sorted(chain(*streams), key=itemgetter(0)))
    for key, group in groupby(rows, key=itemgetter(0)):
        yield key, list(group)
        yield from (("", problem) for problem in problems)
        problems.clear()
    yield from (("", problem) for problem in problems)


def _stream_rows(path: Path, problems: list[LeftOut]) -> Iterator[Row]:
    """Yield the rows of a table: a key, white space and a value, which may be missing. Other lines go to ``problems``."""
    for line in stream_lines(path):
        if isinstance(line, LeftOut):
            problems.append(line)
        elif text := line.text.strip(" \t\r"):
            key, *value = FIELDS.split(text, maxsplit=1)
            yield normalize(key), path.name, value[0] if value else ""


def _is_sorted(path: Path) -> bool:
    """Whether the keys ascend by code point, which is the order of LC_ALL=C for UTF-8."""
    return all(first <= second for (first, *_), (second, *_) in pairwise(_stream_rows(path, [])))


def _read_small(path: Path) -> tuple[dict[str, str], list[LeftOut]]:
    """Read a table into memory: key -> value. Keys that occur again are left out."""
    table: dict[str, str] = {}
    left_out: list[LeftOut] = []
    for key, name, value in _stream_rows(path, left_out):
        if key in table or not value:
            left_out.append(LeftOut(f"{path}: {key}", f"{'id that occurs twice' if value else 'no value'} in {name}"))
        else:
            table[key] = value
    return table, left_out


def _check_sexes(directory: Path, sexes: Mapping[str, str]) -> None:
    for speaker, sex in sexes.items():
        if sex not in ("f", "m"):
            raise InputError(f"{directory / 'spk2gender'}: gender of speaker {speaker} is {sex!r}, expected f or m")


def _parse_segment(value: str) -> tuple[str, float, float | None] | None:
    """Parse "recording start end" (seconds; an end of -1 is that of the recording); None if it is malformed."""
    fields = FIELDS.split(value)
    if len(fields) != 3:
        return None
    start_s, end_s = parse_seconds(fields[1]), parse_seconds(fields[2])
    if (
        start_s is None
        or (end_s is None and fields[2] not in ("-1", "-1.0"))
        or (end_s is not None and end_s <= start_s)
    ):
        return None
    return normalize(fields[0]), start_s, end_s


def _check_path(directory: Path, path: str) -> str:
    """Return the path of an entry of wav.scp, unless it is a command or a place in an archive."""
    where = f"{directory / 'wav.scp'}: {path[:100]!r}"
    if path.startswith("|") or path.endswith("|"):
        raise InputError(
            f"{where} is a command, expected an audio file: commands are not run, write their output to files"
        )
    if OFFSET.search(path):
        raise InputError(f"{where} is a place in an archive, expected an audio file")
    return path


def _find_base(directory: Path) -> Path:
    """Find the folder where the relative paths of wav.scp start: the data directory, or the nearest one above it."""
    rows = islice(_stream_rows(directory / "wav.scp", []), PROBED_PATHS)
    paths = [_check_path(directory, path) for _, _, path in rows]
    relative = [path for path in paths if path and not os.path.isabs(path)]
    for base in (directory, *directory.parents):
        if not relative or any(os.path.exists(locate(base, path)) for path in relative):
            if base != directory:
                _announce(directory, base)
            return base
    raise InputError(
        f"{directory / 'wav.scp'}: {relative[0]} is neither in {directory} nor in a folder above it, expected audio files"
    )


@cache  # once, although a corpus is read twice
def _announce(directory: Path, base: Path) -> None:
    warn([f"{directory / 'wav.scp'}: paths are relative to {base}"])
