"""Pronunciation lexicons: a word and its phones on each line."""

import re
from pathlib import Path

from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.system.files import read_text

Lexicon = dict[str, list[tuple[str, ...]]]
"""Word -> its pronunciations, in the order of the file."""


def read_lexicon(path: Path, phones: PhoneInventory) -> Lexicon:
    """The lexicon in a file; stress (AH0) is taken off, lines that start with # or ;;; are comments.

    Raises:
        InputError: the file cannot be read or is empty, or a line has no phones or an unknown one.
    """
    found: Lexicon = {}
    for number, line in enumerate(read_text(path, "a word and its phones on each line").splitlines(), 1):
        if not line.strip() or line.startswith(("#", ";;;")):
            continue
        word, *stressed = line.split()
        spelled = tuple(re.sub(r"(?<=[A-Z])[0-2]$", "", phone) for phone in stressed)
        wrong = [phone for phone in spelled if phone not in phones.mapping]
        if wrong or not spelled:
            what = f"unknown phone {wrong[0]!r}" if wrong else "no phones"
            raise InputError(f"{path}: line {number}: {what}, expected a word and its phones of {phones.name}")
        if spelled not in found.setdefault(word, []):
            found[word].append(spelled)
    if not found:
        raise InputError(f"{path}: 0 words, expected a word and its phones on each line")
    return found


def pronounce(text: str, path: Path, phones: PhoneInventory) -> list[str]:
    """The phones of a text by a lexicon, each word's first pronunciation; case counts only where both cases are there.

    Raises:
        InputError: the lexicon cannot be used, or lacks a word.
    """
    lexicon = read_lexicon(path, phones)
    any_case = {word.lower(): spellings for word, spellings in reversed(lexicon.items())}
    spoken: list[str] = []
    for word in text.split():
        spellings = lexicon.get(word) or any_case.get(word.lower())
        if spellings is None:
            raise InputError(f"{path}: word {word!r} is not in it, expected every word of the text")
        spoken += spellings[0]
    return spoken
