"""Pronunciation lexicons: each line has a word and its phones.

CMUdict, and the dictionaries of Kaldi and of the Montreal Forced Aligner (MFA). Their lines tell themselves apart:

    HELLO(2)  HH EH0 L OW1 # comment       CMUdict: further pronunciations have a number, ";;;" starts a comment
    hello 0.8 HH AH L OW                   Kaldi's lexiconp.txt: a probability
    hello 0.99 0.2 1.0 1.05 h ə l ow       MFA: up to four probabilities, of the word and of silence around it
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.system.files import read_text

Lexicon = dict[str, list[tuple[str, ...]]]
"""Word -> its pronunciations, the most probable first if the file has probabilities, else in the order of the file."""

MAX_PROBABILITIES = 4

_COMMENT = re.compile(r"\s#(\s.*)?$")
_VARIANT = re.compile(r"(?<=.)\([0-9]+\)$")
_STRESS = re.compile(r"^([AEIOU][A-Z]{1,2})[0-2]$")
_DECIMAL = re.compile(r"[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[01]")


def read_lexicon(path: Path, phones: PhoneInventory | None = None, known: Collection[str] = ()) -> Lexicon:
    """Read a lexicon; words and phones are in Unicode's form NFC. ``phones`` None allows any phone.

    The stress of ARPAbet's vowels (the 0 of AH0) is dropped, unless ``phones``, or else ``known`` ones, have it. Lines that
    start with # or ;;; are comments. A number with a decimal point before the phones is a probability; so is 0 or 1 if
    every line has a number there.

    Raises:
        InputError: the file cannot be read or has no words, or a line has no phones or an unknown one.
    """
    text = read_text(path, "a word and its phones on each line").removeprefix("\ufeff")
    lines = ((number, line) for number, line in enumerate(unicodedata.normalize("NFC", text).split("\n"), 1))
    entries = [
        (number, fields)
        for number, line in lines
        if not line.startswith(("#", ";;;")) and (fields := _COMMENT.sub("", line).split())
    ]
    known = phones.mapping if phones else known
    whole = all(len(fields) > 2 and _is_probability(fields[1], True) for _, fields in entries)
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for number, (word, *fields) in entries:
        start = 0
        while start < min(len(fields), MAX_PROBABILITIES) and fields[start] not in known:
            if not _is_probability(fields[start], whole):
                break
            start += 1
        probability = float(fields[0]) if start else 1.0
        pronunciation = _check_phones(fields[start:], probability, phones, known, f"{path}: line {number}")
        found.setdefault(_VARIANT.sub("", word), {}).setdefault(pronunciation, probability)
    if not found:
        raise InputError(f"{path}: 0 words, expected a word and its phones on each line")
    return {word: sorted(entry, key=lambda pronunciation: -entry[pronunciation]) for word, entry in found.items()}


def _is_probability(field: str, whole: bool) -> bool:
    """Whether a field before the phones is a probability. X-SAMPA has phones 0 and 1, so these count only if ``whole``."""
    return bool(_DECIMAL.fullmatch(field) or (whole and _WHOLE.fullmatch(field)))


def _check_phones(
    fields: Sequence[str], probability: float, phones: PhoneInventory | None, known: Collection[str], location: str
) -> tuple[str, ...]:
    """Drop stress that is not ``known``; refuse no phones, unknown phones, and a probability above 1."""
    pronunciation = tuple(phone if phone in known else _STRESS.sub(r"\1", phone) for phone in fields)
    unknown = [phone for phone in pronunciation if phones and phone not in known]
    if unknown or not pronunciation:
        problem = f"unknown phone {unknown[0][:100]!r}" if unknown else "no phones"
        expected = f"its phones of {phones.name}" if phones else "its phones"
        raise InputError(f"{location}: {problem}, expected a word and {expected}")
    if probability > 1:
        raise InputError(f"{location}: probability {probability}, expected 0 to 1")
    return pronunciation
