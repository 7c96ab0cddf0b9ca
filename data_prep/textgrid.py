"""Praat's TextGrid files -> tiers of labelled intervals; and text files in the encodings that people have.

Source: Praat's manual, "TextGrid file formats". Praat reads the free-standing numbers and the texts in double quotes, in
order, and takes everything else as comment. Read this way, the long and the short text form are the same. praatio, which
writes our TextGrids, splits them at words of the long form instead, even inside labels, and drops or refuses what a reader
must report: overlapping, backward and empty intervals.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asr.errors import InputError
from data_prep.fields import normalize

MAX_BYTES = 2**28
"""Largest text file that is read. A day of speech with a tier of phones has about 100 MB in the long form."""

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

ENCODINGS = "UTF-8, or UTF-16 with a byte order mark"

VALUE = re.compile(
    r"""(?<!\S)(?:
        "(?P<text> [^"]*+ (?:""[^"]*+)*+ )" (?!\S)
      | (?P<number> [-+]?+ (?:\d++ (?:\.\d*+)?+ | \.\d++) (?:[eE][-+]?+\d++)?+ ) (?!\S)
      | ! [^\n]*+
      | (?P<broken> " )
    )""",
    re.VERBOSE,
)
"""A free-standing text or number, a comment after an exclamation mark, or a quotation mark that begins no text."""


class Interval(NamedTuple):
    """A label from ``start_s`` to ``end_s``. The label is NFC-normalized, with single spaces; "" is a gap."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Tier:
    """A named tier of intervals, in the order of the file: they may overlap, see `data_prep.tiers.find_fault`."""

    name: str
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class TextGrid:
    """The interval tiers of a TextGrid, from ``start_s`` (0 but for parts of a recording) to ``end_s``."""

    start_s: float
    end_s: float
    tiers: tuple[Tier, ...]


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        InputError: the file is missing, larger than `MAX_BYTES`, or in another encoding.
    """
    return _decode(path, _read_bytes(path))


def read_textgrid(path: Path) -> TextGrid:
    """Read the interval tiers of a TextGrid in the long or the short text form. Tiers of points are passed over.

    Raises:
        InputError: as `read_text`; the file is no TextGrid, is in the binary form, or ends too early.
    """
    data = _read_bytes(path)
    if data.startswith(b"ooBinaryFile"):
        raise InputError(f"{path}: a binary TextGrid, expected a text file (Praat: Save as text file...)")
    values = _Values(path, _decode(path, data))
    kind, content = values.text("the type of the file"), values.text("the class of the object")
    if not kind.startswith("ooTextFile") or content != "TextGrid":
        raise InputError(f"{path}: a {content!r} in a {kind!r}, expected a TextGrid in an ooTextFile")
    start_s, end_s = values.number("the start of the TextGrid"), values.number("the end of the TextGrid")
    tiers = [_read_tier(values) for _ in range(values.count("the number of tiers"))]
    values.expect_end()
    return TextGrid(start_s, end_s, tuple(tier for tier in tiers if tier is not None))


def _read_tier(values: "_Values") -> Tier | None:
    """Read a tier; None for a tier of points."""
    kind, name = values.text("the class of a tier"), values.text("the name of a tier")
    if kind not in ("IntervalTier", "TextTier"):
        raise InputError(f"{values.path}: tier {name!r} is a {kind!r}, expected an IntervalTier or a TextTier")
    values.number("the start of the tier")
    values.number("the end of the tier")
    count = values.count("the number of labels")
    if kind == "TextTier":
        for _ in range(count):
            values.number("the time of a point")
            values.text("the label of a point")
        return None
    intervals = tuple(
        Interval(
            values.number("the start of an interval"),
            values.number("the end of an interval"),
            normalize(values.text("the label of an interval")),
        )
        for _ in range(count)
    )
    return Tier(normalize(name), intervals)


class _Values:
    """The texts and numbers of a TextGrid, one after the other."""

    def __init__(self, path: Path, content: str) -> None:
        self.path = path
        self._content = content
        self._matches: Iterator[re.Match[str]] = (
            match for match in VALUE.finditer(content) if match.lastgroup is not None
        )

    def text(self, expected: str) -> str:
        match = self._next(expected)
        if match.lastgroup != "text":
            raise self._error(match, f"{expected} in double quotes")
        return match["text"].replace('""', '"')

    def number(self, expected: str) -> float:
        match = self._next(expected)
        number = float(match["number"]) if match.lastgroup == "number" else math.nan
        if not math.isfinite(number):
            raise self._error(match, f"{expected}, a number")
        return number

    def count(self, expected: str) -> int:
        match = self._next(expected)
        if match.lastgroup != "number" or not match["number"].isdecimal():
            raise self._error(match, f"{expected}, a whole number")
        return int(match["number"])

    def expect_end(self) -> None:
        if (match := next(self._matches, None)) is not None:
            raise self._error(match, "nothing after the last tier")

    def _next(self, expected: str) -> re.Match[str]:
        if (match := next(self._matches, None)) is None:
            raise InputError(f"{self.path}: ends early, expected {expected}")
        if match.lastgroup == "broken":
            raise self._error(match, 'a text in double quotes, with "" for a quotation mark in it')
        return match

    def _error(self, match: re.Match[str], expected: str) -> InputError:
        line = self._content.count("\n", 0, match.start()) + 1
        found = self._content[match.start() : match.start() + 40].split("\n")[0]
        return InputError(f"{self.path}: line {line}: {found!r}, expected {expected}")


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, expected a text file") from error
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}), expected a text file") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES} bytes, expected a smaller text file")
    return data


def _decode(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data.startswith(UTF_16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        position = error.start + (len(data) - len(error.object))  # the codec of UTF-8 with a mark drops the mark
        found = f"byte 0x{data[position]:02X} at position {position} is not {encoding.removesuffix('-sig').upper()}"
        raise InputError(f"{path}: {found}, expected {ENCODINGS}") from error
    if (zero := text.find("\0")) >= 0:
        raise InputError(f"{path}: character 0 at position {zero}, expected text in {ENCODINGS}")
    return text
