"""Common Voice: the folder of a language with ``train.tsv``, ``dev.tsv``, ``test.tsv`` and ``clips/*.mp3``.

The columns are found by name, because releases differ. Quotes in the tables are letters of the sentences.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from asr.errors import InputError
from data_prep.entries import SPLITS, Entry, LeftOut
from data_prep.fields import locate, normalize, parse_sex, to_name
from data_prep.lines import read_header, stream_rows

COLUMNS = ("client_id", "path", "sentence")

DETAILS = {"age": "age", "accent": "accent", "accents": "accent", "locale": "locale"}
"""Column -> name among the details. Older releases have ``accent``, newer ones ``accents``."""

OTHER_TABLES = ("validated", "invalidated", "other")
"""Tables of clips that are not read: the splits are chosen from ``validated``."""

SPEAKER_DIGITS = 16
"""Hexadecimal digits of a speaker's name; a client_id has 128."""


def read_commonvoice(source: Path) -> Iterator[Entry | LeftOut]:
    """Read the three splits in the order of their tables. The other tables are left out, each with the number of its clips.

    Args:
        source: the folder of a language, or one with a single such folder.

    Raises:
        InputError: there is no such folder or more than one, a table lacks a column or is not UTF-8, or two speakers have
            client_ids with the same beginning.
    """
    root = find_language(source)
    speakers: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}.tsv"
        if not path.is_file():
            continue
        header = read_header(path, "\t")
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise InputError(f"{path}: no column {missing[0]!r}, expected it among: {', '.join(header)}")
        for row in stream_rows(path, "\t"):
            if isinstance(row, LeftOut):
                yield row
            else:
                values = {column: normalize(str(value)) for column, value in row.values.items()}
                yield _make_entry(root, split, row.where, values, speakers)
    yield from _count_others(root)


def find_language(source: Path) -> Path:
    """Find the folder with the tables: ``source``, or the only one of its folders that has them.

    Raises:
        InputError: there is none or more than one.
    """
    source = source.absolute()
    if is_language(source):
        return source
    roots = [path for path in sorted(source.iterdir()) if is_language(path)] if source.is_dir() else []
    if len(roots) == 1:
        return roots[0]
    found = "no clips with train.tsv, dev.tsv or test.tsv"
    if roots:
        found = f"{len(roots)} languages ({', '.join(path.name for path in roots[:5])})"
    raise InputError(f"{source}: {found}, expected the folder of one language of Common Voice")


def is_language(folder: Path) -> bool:
    """Whether a folder has clips and the table of a split."""
    return (folder / "clips").is_dir() and any((folder / f"{split}.tsv").is_file() for split in SPLITS)


def _make_entry(
    root: Path, split: str, where: str, values: Mapping[str, str], speakers: dict[str, str]
) -> Entry | LeftOut:
    client, clip, words = (values[column] for column in COLUMNS)
    if not client or not clip or not words:
        reason = "no client_id" if not client else "text without audio" if words else "audio without text"
        return LeftOut(where, reason)
    speaker = client[:SPEAKER_DIGITS]
    if (known := speakers.setdefault(speaker, client)) != client:
        raise InputError(f"{where}: client_id {client} begins as {known}, expected other first {SPEAKER_DIGITS} digits")
    name = clip if clip.endswith(".mp3") else f"{clip}.mp3"
    return Entry(
        id=to_name(Path(name).stem),
        audio_path=locate(root / "clips", name),
        speaker=speaker,
        where=where,
        words=words,
        sex=parse_sex(values.get("gender", "")),
        split=split,
        details={detail: values[column] for column, detail in DETAILS.items() if values.get(column)},
    )


def _count_others(root: Path) -> Iterator[LeftOut]:
    for path in (root / f"{name}.tsv" for name in OTHER_TABLES):
        if path.is_file():
            clips = sum(1 for _ in stream_rows(path, "\t"))
            yield LeftOut(f"{path}: {clips} clips", "table of clips other than train, dev and test")
