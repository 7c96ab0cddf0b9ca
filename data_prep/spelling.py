"""Utterances to units: the corpus's own phones, the phones of its words, or graphemes. All units are NFC."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from asr.corpus.pronunciations import BRACKETED, CACHED_WORDS, WordPronunciations, is_letter, strip_punctuation
from asr.errors import InputError
from data_prep.entries import Entry
from data_prep.leaving_out import Unusable
from data_prep.pronouncing import Phones, Pronouncing, load_g2p, load_lexicon, read_phones_map

WORD_BOUNDARY = "|"
"""The unit between two words of graphemes."""


class Spelled(NamedTuple):
    """The units of an utterance, and (start, end) of each in seconds if the corpus has them."""

    units: Phones
    times_s: tuple[tuple[float, float], ...] | None = None


class _Found(NamedTuple):
    """A word without punctuation at its edges, its phones (None if it has none), and what pronounced it."""

    word: str
    phones: Phones | None
    source: str = ""


class Speller:
    """Gives utterances their units, and counts what it meets until `reset`.

    ``sources`` counts the words by what pronounced them, ``missing`` those that nothing pronounces, ``dropped`` the
    characters that are no graphemes. ``with_phones`` tells whether `preview` has met phones of the corpus, and ``without``
    where it met the first words that neither have phones nor can be pronounced.
    """

    def __init__(self, request: Pronouncing) -> None:
        """Load the lexicon and the grapheme-to-phoneme model.

        Raises:
            InputError: settings that contradict each other, or a file or language that cannot be used.
        """
        request.check()
        self.request = request
        self.phones = _Phones(None if request.phones_map is None else read_phones_map(request.phones_map))
        lexicon = {} if request.lexicon is None else self._load_lexicon(request.lexicon)
        self.words = WordPronunciations(lexicon)
        self.g2p = load_g2p(request.g2p, request.language) if request.g2p else None
        self.look_up = lru_cache(CACHED_WORDS)(self._look_up)
        self.with_phones, self.without = False, ""
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero."""
        self.sources, self.missing, self.dropped = Counter[str](), Counter[str](), Counter[str]()

    def preview(self, entry: Entry) -> None:
        """Look at an utterance before any audio is read: count missing words if they are an error.

        Raises:
            InputError: the map lacks one of its phones.
        """
        if self.request.units == "graphemes":
            return
        if entry.phones is not None:
            self.with_phones = True
            if self.phones.map is not None:
                with suppress(Unusable):  # of which the second pass tells
                    self._map(entry.phones, entry.where)
        elif entry.words.strip() and not self._pronounces:
            self.without = self.without or entry.where
        elif self.request.oov == "error":
            self._count_missing(map(self.look_up, entry.words.split()))

    def spell(self, entry: Entry) -> Spelled:
        """The units of an utterance.

        Raises:
            Unusable: it has no words, no phones, or a word without a pronunciation.
            InputError: the map lacks one of its phones.
        """
        if self.request.units == "graphemes":
            spelled = Spelled(self._spell_graphemes(entry.words))
        elif entry.phones is not None:
            spelled = self._keep_phones(entry.phones, entry)
        elif not self._pronounces:
            raise Unusable("words without phones, and no lexicon or g2p")
        else:
            spelled = Spelled(self._pronounce(entry.words))
        if not spelled.units:
            raise Unusable("no phones" if self.request.units == "phones" else "no letters")
        return spelled

    def needs_words(self, entry: Entry) -> bool:
        """Whether the units of an utterance come from its words."""
        return entry.phones is None or self.request.units == "graphemes"

    @property
    def _pronounces(self) -> bool:
        """Whether words can have a pronunciation."""
        return self.request.lexicon is not None or self.g2p is not None

    def _keep_phones(self, phones: Phones, entry: Entry) -> Spelled:
        """The corpus's own phones, without those that the map drops."""
        mapped, times_s = self._map(phones, entry.where), entry.phone_times_s
        if times_s is not None and len(times_s) != len(phones):
            raise Unusable("phones and their times differ in number", f"{len(phones)} phones, {len(times_s)} times")
        if times_s is not None and None in mapped:
            times_s = tuple(pair for pair, phone in zip(times_s, mapped, strict=True) if phone is not None)
        return Spelled(_without_dropped(mapped), times_s)

    def _pronounce(self, words: str) -> Phones:
        found = [self.look_up(word) for word in words.split()]
        if missing := self._count_missing(found):
            raise Unusable("a word without a pronunciation", " ".join(missing))
        self.sources.update(word.source for word in found)
        return tuple(phone for word in found for phone in word.phones or ())

    def _count_missing(self, found: Iterable[_Found]) -> list[str]:
        missing = [word for word, phones, _ in found if phones is None]
        self.missing.update(missing)
        return missing

    def _look_up(self, written: str) -> _Found:
        """Look up a word in the lexicon, then by the model."""
        bare = strip_punctuation(unicodedata.normalize("NFC", written))
        if found := self.words.look_up(written):
            return _Found(bare, found[0], "lexicon")
        if not bare:
            return _Found(bare, (), "punctuation")
        if self.g2p is not None and not BRACKETED.fullmatch(bare):
            for pronunciation in self.g2p.pronounce(bare.lower())[:1]:
                return _Found(bare, self._map_word(pronunciation, f"word {bare}"), "g2p")
        return _Found(bare.casefold(), None)

    def _spell_graphemes(self, words: str) -> Phones:
        """The letters and digits of words in lower case, with `WORD_BOUNDARY` between words."""
        units: list[str] = []
        for word in words.split():
            characters = unicodedata.normalize("NFC", word.lower())
            letters = [character for character in characters if is_letter(character)]
            if len(letters) < len(characters):
                self.dropped.update(character for character in characters if not is_letter(character))
            if letters:
                units += [WORD_BOUNDARY, *letters] if units else letters
        return tuple(units)

    def _load_lexicon(self, path: Path) -> dict[str, list[Phones]]:
        """Word -> its first pronunciation, both NFC."""
        return {
            unicodedata.normalize("NFC", word): [self._map_word(pronunciations[0], f"{path}: word {word}")]
            for word, pronunciations in load_lexicon(path, self.phones.map or ()).items()
        }

    def _map_word(self, phones: Iterable[str], where: str) -> Phones:
        return _without_dropped(self._map(phones, where))

    def _map(self, phones: Iterable[str], where: str) -> list[str | None]:
        """Phones in NFC and through the map; None if it drops them."""
        try:
            return [self.phones[phone] for phone in phones]
        except KeyError as error:
            path, known = self.request.phones_map, len(self.phones.map or ())
            raise InputError(
                f"{where}: phone {error.args[0]!r} is not in {path}, expected one of the {known} there"
            ) from error


class _Phones(dict[str, str | None]):
    """Phone as written -> phone in NFC, through ``map`` if it is given. Each is worked out once."""

    def __init__(self, folding: Mapping[str, str | None] | None) -> None:
        super().__init__()
        self.map = folding

    def __missing__(self, written: str) -> str | None:
        phone = unicodedata.normalize("NFC", written)
        if len(phone.split()) != 1:
            raise Unusable("a phone that is empty or has white space", repr(phone))
        self[written] = phone if self.map is None else self.map[phone]
        return self[written]


def _without_dropped(mapped: list[str | None]) -> Phones:
    return tuple(phone for phone in mapped if phone is not None) if None in mapped else tuple(mapped)  # type: ignore[arg-type]
