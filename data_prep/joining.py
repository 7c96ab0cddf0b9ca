"""The end of a preparation: its parts become manifests, statistics and the tables of phones, words and what is left out."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from asr.errors import InputError
from asr.system.files import read_json_object, write_text
from data_prep.checking import warn
from data_prep.leaving_out import describe, table_line
from data_prep.parts import member_path
from data_prep.tallies import Tally, tally_from_json

LEFT_OUT, OOV, PHONES, STATISTICS = "left_out.tsv", "oov.tsv", "phones.txt", "stats.json"


def join_parts(out: Path, stems: Sequence[Path], wanted: Sequence[str], notes: Sequence[str], units: str) -> None:
    """Write the manifest of each split that has utterances, and last ``stats.json``; warn of what is left out.

    ``stems`` are the parts in order, ``wanted`` the splits that have utterances in the corpus. Files of an earlier
    preparation that this one does not write are removed. A table of graphemes says so, for error rates to be of characters.

    Raises:
        InputError: no utterance is left, or a file cannot be written.
    """
    try:
        tally = _write_left_out(out / LEFT_OUT, stems)
        write_counts(out / OOV, tally.missing)
        warn(describe(tally.left_out, tally.firsts))
        if not tally.utterances:
            raise InputError(f"{out}: all {tally.left_out.total()} left out (see {LEFT_OUT}), expected 1 utterance")
        empty = [f"split {name} has no utterance left" for name in wanted if not tally.splits[name].utterances]
        notes = [*notes, *empty, *_unlearned(tally), *tally.notes()]
        warn(notes)
        for name, split in tally.splits.items():
            _write_manifest(out / f"cuts_{name}.jsonl.gz", name, stems if split.utterances else [])
        phones = sorted({phone for split in tally.splits.values() for phone in split.phones})
        head = ["# units: graphemes\n"] if units == "graphemes" else []
        write_lines(out / PHONES, [*head, *(f"{phone}\n" for phone in phones)])
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    write_text(out / STATISTICS, json.dumps(tally.statistics(notes), indent=2, ensure_ascii=False) + "\n")


def _unlearned(tally: Tally) -> list[str]:
    """A note of the phones that no training utterance has, if there is training speech."""
    known = tally.splits["train"].phones
    unseen = sorted({phone for split in tally.splits.values() for phone in split.phones} - set(known))
    return [f"{len(unseen)} phones are in dev or test alone: {' '.join(unseen[:10])}"] if known and unseen else []


def write_counts(path: Path, counts: Mapping[str, int]) -> None:
    """Write a table of words and their counts, the most frequent first; no file if there are none."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    write_lines(path, (table_line(word, count) for word, count in ordered))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file whole or not at all. Without lines there is none, and an older one is removed."""
    with _replace(path) as file:
        file.writelines(line.encode() for line in lines)


def _write_left_out(path: Path, stems: Sequence[Path]) -> Tally:
    """Write the places and reasons of what is left out, and add up the counts of all parts."""
    tally = Tally()
    with _replace(path) as file:
        for stem in stems:
            content = read_json_object(stem.with_suffix(".json"))
            tally.join(tally_from_json(content["counts"]))
            file.writelines(table_line(where, reason).encode() for where, reason in content["left_out"])
    return tally


def _write_manifest(path: Path, split: str, stems: Sequence[Path]) -> None:
    """Join the gzip members of a split; together they are one gzip file."""
    with _replace(path) as file:
        for stem in stems:
            member = member_path(stem, split)
            if split in read_json_object(stem.with_suffix(".json"))["bytes"]:
                with member.open("rb") as lines:
                    shutil.copyfileobj(lines, file)


@contextmanager
def _replace(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that replaces ``path`` at the end; if it is empty, ``path`` is removed."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            size = file.tell()
        if size:
            os.replace(partial, path)
        else:
            path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            partial.unlink()
