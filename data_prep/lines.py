"""Text files of any size, a line or a row at a time: wrong encodings are refused, lines that cannot be rows are left out.

A line ends with a line feed, before which a carriage return is dropped. `str.splitlines` would also end it at U+2028 or a
form feed, which occur in texts.
"""

import codecs
import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from asr.errors import InputError
from data_prep.entries import LeftOut

MAX_LINE_BYTES = 2**19
"""Longest line that is read. The text of an hour of speech has about 60,000 characters, of up to 4 bytes each."""

LINE_TOO_LONG = f"line of more than {MAX_LINE_BYTES} bytes"


class Line(NamedTuple):
    """A line without its end, and its number from 1."""

    number: int
    text: str


class Row(NamedTuple):
    """A row of a table: where it is, and its values by column. Tables of text have strings alone."""

    where: str
    values: dict[str, object]


def stream_lines(path: Path, limit: int = MAX_LINE_BYTES) -> Iterator[Line | LeftOut]:
    """Yield the lines of a UTF-8 file, with or without byte order mark; of a file ``*.gz``, those that it compresses.

    Lines of more than ``limit`` bytes are left out.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(limit + 1):
                number += 1
                if len(line) > limit:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(limit)
                    yield LeftOut(f"{path}: line {number}", f"line of more than {limit} bytes")
                else:
                    yield Line(number, _decode(path, number, line))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a text file") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path}: not readable after line {number} ({reason}), expected a text file") from error


def stream_rows(path: Path, delimiter: str) -> Iterator[Row | LeftOut]:
    """Yield the rows of a table with a header. Rows with another number of fields than the header are left out.

    With a comma as the delimiter, fields may be quoted and then contain commas and line ends (RFC 4180). With a tab, quotes
    are letters.

    Raises:
        InputError: as `stream_lines` and `read_header`.
    """
    header = read_header(path, delimiter)
    for where, fields in _stream_fields(path, delimiter):
        if isinstance(fields, str):
            yield LeftOut(where, fields)
        elif len(fields) != len(header):
            yield LeftOut(f"{where}: {len(fields)} fields, the header has {len(header)}", "wrong number of fields")
        else:
            yield Row(where, dict(zip(header, fields, strict=True)))


def read_header(path: Path, delimiter: str) -> list[str]:
    """Read the names of the columns from the first line of a table.

    Raises:
        InputError: as `stream_lines`; the table is empty, its first line is too long, or a name occurs twice.
    """
    first = next(stream_lines(path), None)
    if first is None or isinstance(first, LeftOut):
        found = "empty" if first is None else f"line 1: {LINE_TOO_LONG}"
        raise InputError(f"{path}: {found}, expected a header with the names of the columns")
    try:
        header = first.text.split("\t") if delimiter == "\t" else next(csv.reader([first.text], strict=True), [])
    except csv.Error as error:
        raise InputError(f"{path}: line 1: {error}, expected a header with the names of the columns") from error
    header = [name.strip() for name in header]
    for name, count in Counter(header).items():
        if name and count > 1:
            raise InputError(f"{path}: column {name!r} occurs {count} times, expected once")
    return header


def parse_object(text: str) -> dict[str, object] | None:
    """Parse a JSON object; None if the text is none, or has a character that UTF-8 lacks (half of a surrogate pair)."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _stream_fields(path: Path, delimiter: str) -> Iterator[tuple[str, list[str] | str]]:
    """Yield the fields of each row after the header, or the reason why there are none, with the place of the row."""
    numbers: list[int] = []
    too_long: list[LeftOut] = []

    def feed() -> Iterator[str]:
        for line in stream_lines(path):
            if isinstance(line, LeftOut):
                too_long.append(line)
            else:
                numbers.append(line.number)
                yield line.text + "\n"

    lines = feed()
    next(lines, None)
    reader = _split_tabs(lines) if delimiter == "\t" else csv.reader(lines, strict=True)
    fields: list[str] | str | None = []
    while fields is not None:
        numbers.clear()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            fields = "field too long" if "limit" in str(error) else "quotes that do not match"
        yield from too_long
        too_long.clear()
        if isinstance(fields, str):  # each line that the broken row has swallowed is lost, and counted
            yield from ((f"{path}: line {number}", fields) for number in numbers)
        elif fields:
            place = f"line {numbers[0]}" if len(numbers) == 1 else f"lines {numbers[0]} to {numbers[-1]}"
            yield f"{path}: {place}", fields


def _split_tabs(lines: Iterator[str]) -> Iterator[list[str]]:
    return (line[:-1].split("\t") if line != "\n" else [] for line in lines)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decode(path: Path, number: int, line: bytes) -> str:
    if number == 1:
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path}: UTF-16, expected UTF-8")
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number}: byte 0x{line[error.start]:02X}, expected UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}: line {number}: a NUL character, expected UTF-8 (this may be UTF-16)")
    return text.removesuffix("\n").removesuffix("\r")
