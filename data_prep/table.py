"""Tables with a row for each utterance: CSV, TSV, JSON lines or Parquet. Columns are found by name.

CSV may quote fields (RFC 4180). In TSV, quotes are letters. In JSON lines, each line is an object. Parquet needs pyarrow,
which is not installed with this program.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.fields import locate, normalize, parse_seconds, parse_sex, parse_split, to_name
from data_prep.lines import LINE_TOO_LONG, MAX_LINE_BYTES, Row, parse_object, read_header, stream_lines, stream_rows

ROLES = ("audio", "words", "phones", "speaker", "id", "start", "end", "split", "sex", "language")
"""What a column can be. A column with such a name is used without being asked for."""

PEEKED_ROWS = 100
"""Rows of JSON lines whose keys are the columns of the table."""

BATCH_ROWS = 1000
"""Rows of Parquet in memory at once, beside the compressed row group."""

NOT_TEXT = "value that is no text, number or list of them"


def read_table(source: Path, columns: Mapping[str, str]) -> Iterator[Entry | LeftOut]:
    """Read the rows of a table in their order. Relative paths of audio start at the folder of the table.

    Args:
        source: file ``*.csv``, ``*.tsv``, ``*.jsonl`` or ``*.parquet``.
        columns: one of `ROLES`, or the name of a detail -> name of the column. An empty name leaves a role out. Times are
            in seconds, phones are separated by spaces. Without an id, utterances are called after their audio files.

    Raises:
        InputError: the file cannot be read, or lacks a column that is asked for, ``audio``, ``speaker``, or both ``words``
            and ``phones``.
    """
    source = source.absolute()
    if source.suffix.lower() not in FORMATS:
        raise InputError(f"{source}: name ends in {source.suffix!r}, expected {', '.join(FORMATS)}")
    read_columns, stream = FORMATS[source.suffix.lower()]
    used = choose_columns(source, columns, read_columns(source))
    for row in stream(source, list(used.values())):
        yield row if isinstance(row, LeftOut) else _make_entry(source.parent, row, used)


def choose_columns(source: Path, columns: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """Choose the columns of a table that has these ``names``: role or detail -> column.

    Raises:
        InputError: a column is missing.
    """
    wanted = {role: role for role in ROLES if role in names} | dict(columns)
    used = {role: column for role, column in wanted.items() if column}
    there = f"the columns are: {', '.join(names)}"[:1000]
    for role, column in used.items():
        if column not in names:
            raise InputError(f"{source}: no column {column!r}, expected it for {role}; {there}")
    for alternatives in (("audio",), ("speaker",), ("words", "phones")):
        if not any(role in used for role in alternatives):
            how = f"expected its name by asr prepare table --column {alternatives[0]}=NAME"
            raise InputError(f"{source}: no column for {' or '.join(alternatives)}, {how}; {there}")
    return used


def _make_entry(folder: Path, row: Row, used: Mapping[str, str]) -> Entry | LeftOut:
    texts = {role: _to_text(row.values.get(column)) for role, column in used.items()}
    values = {role: normalize(text) for role, text in texts.items() if text is not None}
    if len(values) < len(texts):
        column = next(used[role] for role, text in texts.items() if text is None)
        return LeftOut(f"{row.where}: column {column!r}", NOT_TEXT)
    audio, words, phones = values["audio"], values.get("words", ""), values.get("phones", "")
    start_s = parse_seconds(values.get("start") or "0")
    end_s = parse_seconds(values["end"]) if values.get("end") else None
    if (reason := _find_fault(values, start_s, end_s)) is not None or start_s is None:
        return LeftOut(row.where, reason or "")
    return Entry(
        id=to_name(values.get("id") or _name_utterance(audio, values.get("start", ""))),
        audio_path=locate(folder, (texts["audio"] or "").strip()),
        speaker=to_name(values["speaker"]),
        where=row.where,
        words=words,
        phones=tuple(phones.split()) if phones else None,
        start_s=start_s,
        end_s=end_s,
        sex=parse_sex(values.get("sex", "")),
        split=parse_split(values.get("split", "")),
        details={role: value for role, value in values.items() if value and (role not in ROLES or role == "language")},
    )


def _find_fault(values: Mapping[str, str], start_s: float | None, end_s: float | None) -> str | None:
    """Return why the values of a row make no entry, or None if they do."""
    if sum(map(len, values.values())) > MAX_LINE_BYTES:  # of Parquet: other rows are lines
        return LINE_TOO_LONG
    text = values.get("words") or values.get("phones")
    if not values["audio"] or not text:
        return "text without audio" if text else "audio without text" if values["audio"] else "neither audio nor text"
    if not values["speaker"]:
        return "no speaker"
    if "id" in values and not values["id"]:
        return "no id"
    if start_s is None or (values.get("end") and end_s is None):
        return "start or end that is no time in seconds"
    if end_s is not None and end_s <= start_s:
        return "end that is not after the start"
    if values.get("split") and not parse_split(values["split"]):
        return "split other than train, dev and test"
    return None


def _name_utterance(audio: str, start: str) -> str:
    """Name an utterance after its audio file and, if there is one, its start: a/b.wav at 1.5 s is a_b_1.5."""
    parts = [part for part in PurePath(audio).with_suffix("").parts if part not in ("/", "..")]
    return "_".join([*parts, start] if start else parts)


def _to_text(value: object) -> str | None:
    """Return a value as text: numbers are written out, lists joined with spaces; None for other values."""
    if value is None:
        return ""
    if isinstance(value, list):
        texts = [_to_text(item) for item in value]
        return None if None in texts else " ".join(text for text in texts if text)
    return str(value) if isinstance(value, str | int | float) else None


def _stream_objects(path: Path, columns: list[str] | None = None) -> Iterator[Row | LeftOut]:
    """Yield the objects of JSON lines. Lines that are none are left out. All ``columns`` are kept."""
    for line in stream_lines(path):
        if isinstance(line, LeftOut):
            yield line
        elif line.text.strip():
            where = f"{path}: line {line.number}"
            value = parse_object(line.text)
            yield LeftOut(where, "line that is no JSON object") if value is None else Row(where, value)


def _read_keys(path: Path) -> list[str]:
    rows = [row for row in islice(_stream_objects(path), PEEKED_ROWS) if isinstance(row, Row)]
    if not rows:
        raise InputError(f"{path}: no JSON object in the first {PEEKED_ROWS} lines, expected one on each line")
    return list(dict.fromkeys(chain.from_iterable(row.values for row in rows)))


def _stream_parquet(path: Path, columns: list[str]) -> Iterator[Row | LeftOut]:
    """Yield the rows of Parquet, a row group after the other."""
    number = 0
    file = _open_parquet(path)
    for column in columns:
        kind = str(file.schema_arrow.field(column).type)
        if kind.startswith(("struct", "map", "binary", "large_binary", "fixed_size_binary")):
            raise InputError(f"{path}: column {column!r} is {kind[:100]}, expected text, numbers or lists of them")
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns))):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path}: row {number}", values)
    except (OSError, ValueError, NotImplementedError) as error:  # the bases of pyarrow's exceptions
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable after row {number} ({reason}), expected a Parquet file") from error


def _open_parquet(path: Path) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow, expected it to be installed: pip install pyarrow") from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not readable as Parquet ({reason}), expected a Parquet file") from error


FORMATS: dict[str, tuple[Callable[[Path], list[str]], Callable[[Path, list[str]], Iterator[Row | LeftOut]]]] = {
    ".csv": (lambda path: read_header(path, ","), lambda path, _: stream_rows(path, ",")),
    ".tsv": (lambda path: read_header(path, "\t"), lambda path, _: stream_rows(path, "\t")),
    ".jsonl": (_read_keys, _stream_objects),
    ".parquet": (lambda path: list(_open_parquet(path).schema_arrow.names), _stream_parquet),
}
"""Ending of the file's name -> functions that read the names of its columns, and its rows."""
