"""Phones in the notation of TIMIT, ARPAbet or the International Phonetic Association."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

from asr.errors import InputError

NOTATIONS = ("timit", "arpabet", "ipa")


@cache
def translation(notation: str) -> Mapping[str, str | None]:
    """Phone of TIMIT or ARPAbet -> its symbol in a notation, None where it has none (silences, closures in ARPAbet).

    Raises:
        InputError: an unknown notation.
    """
    if notation not in NOTATIONS:
        raise InputError(f"notation {notation!r}, expected one of {', '.join(NOTATIONS)}")
    text = resources.files("asr").joinpath("data", "phone_symbols.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    table: dict[str, str | None] = {}
    for row in rows:
        symbols = dict(zip(NOTATIONS, row, strict=True))
        wanted = None if symbols[notation] == "-" else symbols[notation]
        for phone in (symbols["timit"], symbols["arpabet"]):
            table.setdefault(phone, wanted)
    return table
