"""Words as texts have them -> all their pronunciations, by a lexicon and a grapheme-to-phoneme model for the rest."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice, product

Pronunciation = tuple[str, ...]

APOSTROPHES = str.maketrans("\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}", "''")
HYPHENS = re.compile("[-\N{HYPHEN}-\N{HORIZONTAL BAR}]+")
MAX_COMBINATIONS = 50
"""Pronunciations of a word whose parts, between hyphens, have several each."""


class WordPronunciations:
    """Looks up words: as written, without punctuation around them, in any case, in parts at hyphens, then by the model."""

    def __init__(
        self,
        lexicon: Mapping[str, Sequence[Pronunciation]],
        g2p: Callable[[str], Sequence[Pronunciation]] | None = None,
    ) -> None:
        """``g2p`` gives the pronunciations of words that the lexicon lacks, in lower case."""
        self.lexicon = lexicon
        self.folded: dict[str, Sequence[Pronunciation]] = {}
        for word, pronunciations in lexicon.items():
            self.folded.setdefault(word.casefold(), pronunciations)
        self.g2p = g2p
        self.find = lru_cache(2**16)(self._find)

    def _find(self, written: str) -> tuple[Pronunciation, ...]:
        word = unicodedata.normalize("NFC", written)
        bare = strip_punctuation(word)
        for spelling in dict.fromkeys((word, bare, word.translate(APOSTROPHES), bare.translate(APOSTROPHES))):
            found = self.lexicon.get(spelling) or self.folded.get(spelling.casefold())
            if found:
                return tuple(found)
        parts = [part for part in HYPHENS.split(bare) if part]
        if len(parts) > 1:
            combined = product(*(self.find(part) for part in parts))
            return tuple(
                tuple(phone for part in parts for phone in part) for parts in islice(combined, MAX_COMBINATIONS)
            )
        return tuple(self.g2p(bare.lower())) if self.g2p is not None and bare else ()


def split_words(text: str) -> tuple[str, ...]:
    """The words of a text, without those that are punctuation alone."""
    return tuple(word for word in text.split() if strip_punctuation(word))


def strip_punctuation(word: str) -> str:
    """A word without punctuation and symbols around it; letters, their marks and digits stay."""
    letters = [index for index, character in enumerate(word) if unicodedata.category(character)[0] in "LMN"]
    return word[letters[0] : letters[-1] + 1] if letters else ""
