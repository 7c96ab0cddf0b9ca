"""Pronunciation lexicons: each line has a word and its phones."""

import re
from pathlib import Path

from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.system.files import read_text

Lexicon = dict[str, list[tuple[str, ...]]]
"""Word -> its pronunciations, in the order of the file."""


def read_lexicon(path: Path, phones: PhoneInventory) -> Lexicon:
    """Read a lexicon. Stress marks (the 0 of AH0) are dropped; lines that start with # or ;;; are comments.

    Raises:
        InputError: the file cannot be read or has no words, or a line has no phones or an unknown one.
    """
    lexicon: Lexicon = {}
    for number, line in enumerate(read_text(path, "a word and its phones on each line").splitlines(), 1):
        if not line.strip() or line.startswith(("#", ";;;")):
            continue
        word, *stressed = line.split()
        pronunciation = tuple(re.sub(r"(?<=[A-Z])[0-2]$", "", phone) for phone in stressed)
        unknown = [phone for phone in pronunciation if phone not in phones.mapping]
        if unknown or not pronunciation:
            problem = f"unknown phone {unknown[0]!r}" if unknown else "no phones"
            raise InputError(f"{path}: line {number}: {problem}, expected a word and its phones of {phones.name}")
        if pronunciation not in lexicon.setdefault(word, []):
            lexicon[word].append(pronunciation)
    if not lexicon:
        raise InputError(f"{path}: 0 words, expected a word and its phones on each line")
    return lexicon


def pronounce(text: str, path: Path, phones: PhoneInventory) -> list[str]:
    """Look up the phones of a text: each word's first pronunciation, in its own case if the lexicon has it, else any.

    Raises:
        InputError: the lexicon cannot be used, or lacks a word.
    """
    lexicon = read_lexicon(path, phones)
    any_case = {word.lower(): pronunciations for word, pronunciations in reversed(lexicon.items())}
    sequence: list[str] = []
    for word in text.split():
        pronunciations = lexicon.get(word) or any_case.get(word.lower())
        if pronunciations is None:
            raise InputError(f"{path}: no entry for word {word!r}, expected every word of the text")
        sequence += pronunciations[0]
    return sequence
