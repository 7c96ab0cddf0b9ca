"""Write utterances as Lhotse manifests, and read and check them.

A manifest is a ``cuts_*.jsonl.gz`` file with a cut on each line, as `asr.corpus.cuts` describes it.
"""

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.corpus.cuts import Utterance, cut_line, make_utterance, one_line
from asr.errors import InputError

MAX_LINE_BYTES = 2**24

MAX_COMPRESSION_RATIO = 100
"""Largest accepted ratio of decompressed to compressed size. Manifests have about 10."""


def write_corpus(
    out: Path,
    splits: Mapping[str, Sequence[Utterance]],
    left_out: Mapping[str, int],
    notes: Sequence[str] = (),
    language: str = "English",
) -> None:
    """Write ``out/cuts_SPLIT.jsonl.gz`` for each split, then ``out/stats.json``. Each file is replaced atomically.

    ``left_out`` counts, by reason, the utterances of the source that are in no split.

    Raises:
        InputError: a split is empty or repeats an id, or the folder cannot be written.
    """
    ids = Counter(utterance.id for split in splits.values() for utterance in split)
    for name, split in splits.items():
        if not split:
            raise InputError(f"{out}: split {name} has 0 utterances, expected at least 1")
        # Splits may share utterances (TIMIT's full test set contains dev and test). Within a split, ids are unique.
        check_unique_ids(out / f"cuts_{name}.jsonl.gz", split)
    statistics = {
        "splits": {
            name: split_statistics(
                len(split),
                {utterance.speaker for utterance in split},
                sum(utterance.duration_s for utterance in split),
                Counter(phone for utterance in split for phone in utterance.phones),
                Counter(str(utterance.sample_rate_hz) for utterance in split),
            )
            for name, split in splits.items()
        },
        "distinct_utterances": len(ids),
        "left_out": dict(left_out),
        "notes": list(notes),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, split in splits.items():
            _write_cuts(split, out / f"cuts_{name}.jsonl.gz", language)
        partial = out / "stats.json.partial"
        partial.write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, out / "stats.json")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error


def read_manifest(path: Path, check_audio: bool = True) -> list[Utterance]:
    """Read and check the utterances of a manifest, in file order. Without ``check_audio``, their audio may be missing.

    Raises:
        InputError: the file is missing, empty or not a manifest of cuts; an id occurs twice; a cut has no phones, no
            speaker, or not exactly one audio file; the audio file is missing.
    """
    utterances = list(stream_manifest(path, check_audio))
    check_unique_ids(path, utterances)
    return utterances


def stream_manifest(path: Path, check_audio: bool = True, need_phones: bool = True) -> Iterator[Utterance]:
    """Yield the utterances of a manifest one after another. Without ``check_audio``, their audio may be missing.

    ``need_phones`` is that of `make_utterance`.

    Raises:
        InputError: as `read_manifest`, but ids may occur twice.
    """
    for cut in stream_cuts(path):
        utterance = make_utterance(path, cut, need_phones=need_phones)
        if check_audio and not (audio := utterance.audio_path).is_file():
            raise InputError(f"{path}: utterance {utterance.id}: audio file {audio} is missing, expected a file")
        yield utterance


def stream_cuts(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the cuts of a manifest as JSON objects. Lhotse's classes take ten times as long, and half a gigabyte.

    Raises:
        InputError: as `count_cuts`; a line is not a JSON object.
    """
    count_cuts(path)
    for line in _read_lines(path):
        try:
            cut = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not a manifest of Lhotse cuts ({one_line(error)})") from error
        if not isinstance(cut, dict):
            raise InputError(f"{path}: a line with a {type(cut).__name__}, expected a Lhotse cut on each line")
        yield cut


def count_cuts(path: Path) -> int:
    """Count the cuts of a manifest, one on each line. A small gzip file that expands to gigabytes is refused.

    Raises:
        InputError: the file is missing, empty or not readable; a line, or the whole, is implausibly long.
    """
    return sum(1 for _ in _read_lines(path))


def _read_lines(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}, expected a manifest (cuts_*.jsonl.gz, see `asr prepare --help`)")
    bytes_left, empty = MAX_LINE_BYTES + MAX_COMPRESSION_RATIO * path.stat().st_size, True
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                bytes_left -= len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise InputError(f"{path}: a line of more than {MAX_LINE_BYTES} bytes, expected one cut per line")
                if bytes_left < 0:
                    many = f"{MAX_COMPRESSION_RATIO} times its size"
                    raise InputError(f"{path}: decompresses to more than {many}, expected a manifest")
                if not line.isspace():
                    empty = False
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a manifest of Lhotse cuts ({one_line(error)})") from error
    if empty:
        raise InputError(f"{path}: 0 utterances, expected at least 1")


def check_unique_ids(path: Path, utterances: Iterable[Utterance]) -> None:
    """Raise InputError if two utterances of a manifest have the same id."""
    for utterance_id, count in Counter(utterance.id for utterance in utterances).items():
        if count > 1:
            raise InputError(f"{path}: utterance id {utterance_id} occurs {count} times, expected once")


def _write_cuts(utterances: Sequence[Utterance], path: Path, language: str) -> None:
    partial = path.with_name("partial_" + path.name)
    with partial.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        for utterance in utterances:
            lines.write(cut_line(utterance, language).encode())
    os.replace(partial, path)


def split_statistics(
    utterances: int,
    speakers: Collection[str],
    duration_s: float,
    phone_counts: Mapping[str, int],
    sample_rates_hz: Mapping[str, int],
) -> dict[str, object]:
    """The statistics of one split, as ``stats.json`` has them, from its counts."""
    return {
        "utterances": utterances,
        "speakers": len(speakers),
        "hours": round(duration_s / 3600, 4),
        "phones": sum(phone_counts.values()),
        "phone_counts": dict(sorted(phone_counts.items())),
        "sample_rates_hz": dict(sorted(sample_rates_hz.items())),
    }
