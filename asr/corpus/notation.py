"""Notations of phones: TIMIT, ARPAbet, IPA and X-SAMPA, what a phone set is written in, and translations.

Sources: ``asr/data/phone_symbols.tsv`` for English in TIMIT, ARPAbet and IPA; ``asr/data/ipa.tsv`` for the letters of the
IPA, their manner of articulation and X-SAMPA.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from asr.errors import InputError

NOTATIONS = ("timit", "arpabet", "ipa")
KNOWN_NOTATIONS = (*NOTATIONS, "xsampa", "graphemes", "other")
"""What a phone set may be written in. ``graphemes`` are letters, ``other`` is anything that is not translated."""
LOOKALIKES = {"g": "ɡ"}
"""Characters that are written for letters of the IPA."""
SILENCES = frozenset({"h#", "pau", "epi", "sil", "SIL", "<sil>", "sp", "SP", "|"})
"""Labels of silence: before, between and after words. ``|`` separates the words of a transcript in graphemes."""
MANNERS = (
    *("front vowels", "central vowels", "back vowels", "diphthongs", "approximants", "laterals", "nasals", "trills"),
    *("flaps", "fricatives", "affricates", "stops", "implosives", "clicks", "tones", "silences", "other"),
)
"""Manners of articulation of phones in IPA, in the order of the confusion matrix."""
MARK = "mark"
"""Stands in place of a manner for marks that modify a letter, and for stress."""
TIES = "\u0361\u035c"


class Letter(NamedTuple):
    """A letter or mark of the IPA: its manner of articulation, its place in the table, and its X-SAMPA, "" if none."""

    manner: str
    order: int
    xsampa: str


@cache
def phone_symbols(notation: str) -> Mapping[str, str | None]:
    """TIMIT or ARPAbet phone -> its symbol in a notation; None if it has none (silences, closures in ARPAbet).

    Raises:
        InputError: unknown notation.
    """
    if notation not in NOTATIONS:
        raise InputError(f"notation {notation!r}, expected one of {', '.join(NOTATIONS)}")
    table: dict[str, str | None] = {}
    for row in _rows("phone_symbols.tsv"):
        symbols = dict(zip(NOTATIONS, row, strict=True))
        symbol = None if symbols[notation] == "-" else symbols[notation]
        for phone in (symbols["timit"], symbols["arpabet"]):
            table.setdefault(phone, symbol)
    return table


def detect(phones: Iterable[str]) -> str:
    """The notation that all these phones are written in: arpabet, timit or ipa; "" if it is none of them, or not certain.

    Phones are taken for IPA if all are made of its letters and one of them has a character outside ASCII. Silences do not
    count.
    """
    distinct = set(phones) - SILENCES
    rows = _rows("phone_symbols.tsv")
    timit, arpabet = ({row[column] for row in rows} - {"-"} for column in (0, 1))
    if not distinct:
        return ""
    if {without_stress(phone) for phone in distinct} <= arpabet:
        return "arpabet"
    if distinct <= timit:
        return "timit"
    return "ipa" if all(map(is_ipa, distinct)) and not "".join(distinct).isascii() else ""


def translate(phones: Iterable[str], source: str, target: str) -> dict[str, str | None]:
    """Phone in the notation ``source`` -> its symbol in ``target``; None if it has none there, as silences.

    Raises:
        InputError: there is no translation from ``source`` to ``target``.
    """
    if source in ("timit", "arpabet") and target in NOTATIONS:
        table = phone_symbols(target)
        plain = {phone: without_stress(phone) if source == "arpabet" else phone for phone in phones}
        return {phone: phone if source == target else table.get(symbol, symbol) for phone, symbol in plain.items()}
    if source in ("timit", "arpabet") and target == "xsampa":
        in_ipa = translate(phones, source, "ipa")
        return {phone: None if symbol is None else ipa_to_xsampa(symbol) for phone, symbol in in_ipa.items()}
    if source in CONVERSIONS and source == target:
        return {phone: phone for phone in phones}
    if source in CONVERSIONS and target in CONVERSIONS:
        return {phone: None if phone in SILENCES else CONVERSIONS[source](phone) for phone in phones}
    written = f"phones in {source}" if source in KNOWN_NOTATIONS[:-1] else "phones in a notation of their own"
    possible = "model, ipa or xsampa" if source in CONVERSIONS else "model"
    raise InputError(f"notation {target!r} for a model with {written}, expected {possible}")


def without_stress(phone: str) -> str:
    """An ARPAbet phone without its stress: AH0 as AH."""
    return phone[:-1] if re.fullmatch("[A-Z]{2}[0-2]", phone) else phone


@cache
def ipa_letters() -> Mapping[str, Letter]:
    """Letters and marks of the IPA, in canonical decomposition."""
    return {
        unicodedata.normalize("NFD", ipa): Letter(manner, order, "" if xsampa == "-" else xsampa.split()[0])
        for order, (manner, ipa, xsampa) in enumerate(_rows("ipa.tsv"))
    }


def split_ipa(phone: str) -> list[str] | None:
    """The letters and marks of a phone in IPA; None if a character is not of the IPA, or there is no letter."""
    letters, pattern = ipa_letters(), _ipa_pattern()
    found, position = [], 0
    text = unicodedata.normalize("NFD", "".join(LOOKALIKES.get(character, character) for character in phone))
    while match := pattern.match(text, position):
        found.append(match[0])
        position = match.end()
    return found if position == len(text) and any(letters[part].manner != MARK for part in found) else None


def is_ipa(phone: str) -> bool:
    """Whether a phone is made of letters and marks of the IPA."""
    return split_ipa(phone) is not None


def manner(phone: str) -> tuple[int, str]:
    """A sort key, and the manner of articulation of a phone in IPA; "other" if it is not IPA, "silences" for a silence.

    Two different vowels are a diphthong, a stop and a fricative an affricate. Nasals before stops, and stops before clicks,
    are parts of these. Otherwise the first letter decides. Marks change nothing.
    """
    letters = ipa_letters()
    found = [letters[part] for part in split_ipa(phone) or () if letters[part].manner != MARK]
    segments = [letter for letter in found if letter.manner != "tones"] or found
    if phone in SILENCES or not segments:
        name = "silences" if phone in SILENCES else "other"
        return MANNERS.index(name) * len(letters), name
    manners = [letter.manner for letter in segments]
    name = manners[0]
    if len(set(segments)) > 1 and all(one.endswith("vowels") for one in manners):
        name = "diphthongs"
    elif "clicks" in manners:
        name = "clicks"
    elif name in ("stops", "nasals") and "stops" in manners:
        name = "affricates" if "fricatives" in manners else "stops"
    return MANNERS.index(name) * len(letters) + segments[0].order, name


def xsampa_to_ipa(phone: str) -> str:
    """Translate a phone from X-SAMPA to IPA.

    Raises:
        InputError: it is not X-SAMPA.
    """
    to_ipa, pattern = _xsampa_symbols()
    text, position = "", 0
    while match := pattern.match(phone, position):
        text += to_ipa[match[0]]
        position = match.end()
    if position < len(phone) or not phone:
        raise InputError(f"phone {phone!r}: no X-SAMPA from {phone[position:]!r} on, expected its symbols")
    return unicodedata.normalize("NFC", text)


def ipa_to_xsampa(phone: str) -> str:
    """Translate a phone from IPA to X-SAMPA, without tie bars.

    Raises:
        InputError: it is not IPA, or X-SAMPA has no symbol for a part of it.
    """
    letters, parts = ipa_letters(), split_ipa(phone)
    if parts is None:
        raise InputError(f"phone {phone!r}: not in IPA, expected its letters and marks")
    missing = [part for part in parts if part not in TIES and not letters[part].xsampa]
    if missing:
        raise InputError(
            f"phone {phone!r}: X-SAMPA has no symbol for {missing[0]!r}, expected phones that it can write"
        )
    return "".join(letters[part].xsampa for part in parts if part not in TIES)


CONVERSIONS = {"ipa": ipa_to_xsampa, "xsampa": xsampa_to_ipa}
"""Notation -> the translation of a phone into the other of the two."""


@cache
def _ipa_pattern() -> re.Pattern[str]:
    return _longest_first(ipa_letters())


@cache
def _xsampa_symbols() -> tuple[Mapping[str, str], re.Pattern[str]]:
    """X-SAMPA symbol -> IPA, with all ways to write it, and the pattern of a symbol."""
    table = {symbol: ipa for _, ipa, written in _rows("ipa.tsv") for symbol in written.split() if symbol != "-"}
    return table, _longest_first(table)


def _longest_first(symbols: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(symbol) for symbol in sorted(symbols, key=lambda symbol: (-len(symbol), symbol)))
    )


@cache
def _rows(name: str) -> list[list[str]]:
    """The rows of a table in ``asr/data``, without comments and empty lines."""
    text = resources.files("asr").joinpath("data", name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
