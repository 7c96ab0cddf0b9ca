"""Words as texts have them -> their pronunciations: by a lexicon, then by a grapheme-to-phoneme model."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice, product

from asr.errors import InputError

Pronunciation = tuple[str, ...]

BRACKETED = re.compile(r"<.*>|\[.*\]|\{.*\}")
"""Marks of noises and unknown words, such as <unk> and [laughter]. They are no spelling of a word."""

APOSTROPHES = str.maketrans("\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}", "''")
HYPHENS = re.compile("[-\N{HYPHEN}-\N{HORIZONTAL BAR}]+")
MAX_COMBINATIONS = 50
"""Pronunciations of a word whose parts, between hyphens, have several each."""
CACHED_WORDS = 2**16


class WordPronunciations:
    """Looks up words: as written, without punctuation around them, in any case, in parts at hyphens, then by the model."""

    def __init__(
        self,
        lexicon: Mapping[str, Sequence[Pronunciation]],
        g2p: Callable[[str], Sequence[Pronunciation]] | None = None,
    ) -> None:
        """``g2p`` gives the pronunciations of words that the lexicon lacks, in lower case."""
        self.lexicon, self.g2p = lexicon, g2p
        self.folded: dict[str, Sequence[Pronunciation]] = {}
        for word, pronunciations in lexicon.items():
            self.folded.setdefault(word.casefold(), pronunciations)
        self.find = lru_cache(CACHED_WORDS)(self._find)

    def look_up(self, written: str) -> tuple[Pronunciation, ...]:
        """All pronunciations of a word that the lexicon has, of its parts at hyphens if it lacks the whole; () if none."""
        word = unicodedata.normalize("NFC", written)
        bare = strip_punctuation(word)
        for spelling in dict.fromkeys((word, bare, word.translate(APOSTROPHES), bare.translate(APOSTROPHES))):
            found = self.lexicon.get(spelling) or self.folded.get(spelling.casefold())
            if found:
                return tuple(found)
        parts = [] if BRACKETED.fullmatch(bare) else HYPHENS.split(bare)
        if len(parts) < 2:
            return ()
        combined = islice(product(*map(self.look_up, parts)), MAX_COMBINATIONS)
        return tuple(tuple(phone for part in each for phone in part) for each in combined)

    def _find(self, written: str) -> tuple[Pronunciation, ...]:
        bare = strip_punctuation(unicodedata.normalize("NFC", written))
        found = self.look_up(written)
        if found or self.g2p is None or not bare or BRACKETED.fullmatch(bare):
            return found
        return tuple(self.g2p(bare.lower()))


def pronounce(text: str, words: WordPronunciations, source: str) -> list[tuple[str, Pronunciation]]:
    """The words of a text, without punctuation, each with its first pronunciation.

    Raises:
        InputError: no words, or words without a pronunciation; the message begins with ``source``.
    """
    found = [(strip_punctuation(word), words.find(word)) for word in split_words(text)]
    missing = list(dict.fromkeys(word for word, pronunciations in found if not pronunciations))
    if missing or not found:
        problem = f"no pronunciation of {', '.join(map(repr, missing[:5]))}" if missing else "no words"
        raise InputError(f"{source}: {problem}, expected a pronunciation of every word of the text")
    return [(word, pronunciations[0]) for word, pronunciations in found]


def split_words(text: str) -> tuple[str, ...]:
    """The words of a text, without those that are punctuation alone."""
    return tuple(word for word in text.split() if strip_punctuation(word))


def strip_punctuation(word: str) -> str:
    """A word without punctuation and symbols at its edges; letters, their marks and digits stay, and so do `BRACKETED`."""
    if BRACKETED.fullmatch(word):
        return word
    start, end = 0, len(word)
    while start < end and not is_letter(word[start]):
        start += 1
    while start < end and not is_letter(word[end - 1]):
        end -= 1
    return word[start:end]


@lru_cache(2**12)
def is_letter(character: str) -> bool:
    """Whether a character is a letter, a mark on one, or a digit."""
    return unicodedata.category(character)[0] in "LMN"
