"""Symbols of TIMIT and ARPAbet phones in TIMIT, ARPAbet or IPA notation."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

from asr.errors import InputError

NOTATIONS = ("timit", "arpabet", "ipa")


@cache
def phone_symbols(notation: str) -> Mapping[str, str | None]:
    """TIMIT or ARPAbet phone -> its symbol in a notation; None if it has none (silences, closures in ARPAbet).

    Raises:
        InputError: unknown notation.
    """
    if notation not in NOTATIONS:
        raise InputError(f"notation {notation!r}, expected one of {', '.join(NOTATIONS)}")
    text = resources.files("asr").joinpath("data", "phone_symbols.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    table: dict[str, str | None] = {}
    for row in rows:
        symbols = dict(zip(NOTATIONS, row, strict=True))
        symbol = None if symbols[notation] == "-" else symbols[notation]
        for phone in (symbols["timit"], symbols["arpabet"]):
            table.setdefault(phone, symbol)
    return table
