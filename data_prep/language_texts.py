"""Sentences for synthetic speech in any language: of a text file, or random words of a word list.

The package `wordfreq` has the words of 40 languages and their frequencies; for Swahili there is a list in ``lists``,
without frequencies. Words are drawn by the square root of their frequency: half of a natural text is a hundred function
words, which have few of a language's phones.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.errors import InputError
from data_prep.entries import LeftOut
from data_prep.espeak import transcribe_texts
from data_prep.espeak_ipa import read_sounds
from data_prep.espeak_languages import Language
from data_prep.leaving_out import Unusable
from data_prep.lines import stream_lines

FEWEST_WORDS, MOST_WORDS = 200, 5000
"""Limits of the number of words of a language that are used: the most frequent."""

LENGTHS = (3, 8)
"""Smallest and largest number of words of a random sentence."""

WORDFREQ_CODES = {"cmn": "zh", "yue": "zh", "hr": "sh", "bs": "sh"}
"""Codes of languages in `wordfreq` that differ from those of espeak-ng."""

MAX_CHARACTERS = 400
"""A longer line of a text is no sentence."""

JOINERS = dict.fromkeys(map(ord, "'’-\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"))
"""Characters inside words that are no letters."""

LISTS = Path(__file__).parent / "lists"

REPEATED, TOO_LONG = "sentence that occurs before", f"sentence of more than {MAX_CHARACTERS} characters"
SOUNDLESS, UNUSED = "sentence without a word", "sentence more than needed"


class Texts(NamedTuple):
    """Different sentences, where they come from, why lines of a text are left out (reason -> number), and notes."""

    sentences: list[str]
    source: str
    left_out: Counter[str]
    notes: tuple[str, ...] = ()


def read_sentences(path: Path, count: int, seed: int) -> Texts:
    """Choose ``count`` sentences of a text in UTF-8 with one on each line, at random.

    Raises:
        InputError: the file is not readable, not UTF-8, or has fewer sentences.
    """
    found: dict[str, None] = {}  # a dict keeps the order
    left_out: Counter[str] = Counter()
    for line in stream_lines(path):
        if isinstance(line, LeftOut):
            left_out[line.reason] += 1
            continue
        sentence = " ".join(unicodedata.normalize("NFC", line.text).split())
        reason = _reason(sentence, found)
        if reason:
            left_out[reason] += 1
        elif sentence:
            found[sentence] = None
    if len(found) < count:
        named = "".join(f", without {number} ({reason})" for reason, number in left_out.items())
        raise InputError(
            f"{path}: {len(found)} different sentences{named}, expected at least {count}, one on each line"
        )
    sentences = list(found)
    chosen = np.random.default_rng([seed, 0]).permutation(len(sentences))[:count]
    if len(sentences) > count:
        left_out[UNUSED] = len(sentences) - count
    return Texts([sentences[index] for index in chosen], f"sentences of {path.name}", left_out)


def words_in(sentence: str) -> str:
    """The words of a sentence, with single spaces between them and without punctuation."""
    return " ".join(word for part in sentence.split() if (word := _without_punctuation(part)))


def draw_sentences(language: Language, count: int, seed: int) -> Texts:
    """Make ``count`` different sentences of random words of a language.

    Raises:
        InputError: no word list of the language is installed.
    """
    source, frequencies = _read_words(language.code)
    usable, left_out = _speakable(list(frequencies), language)
    if len(usable) < FEWEST_WORDS:
        found = f"{len(usable)} of {len(frequencies)} words of {source} are read by espeak-ng"
        raise InputError(
            f"language {language.code}: {found}, expected at least {FEWEST_WORDS}, or a text (--text FILE)"
        )
    generator = np.random.default_rng([seed, 0])
    shares = np.sqrt([frequencies[word] for word in usable])
    bounds = np.cumsum(shares) / shares.sum()
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        drawn = np.searchsorted(bounds, generator.random(int(generator.integers(LENGTHS[0], LENGTHS[1] + 1))), "right")
        sentences[" ".join(usable[min(index, len(usable) - 1)] for index in drawn) + "."] = None
    notes = tuple(f"words left out: {number} ({reason})" for reason, number in left_out.items())
    return Texts(list(sentences), f"random words of {source}", Counter(), notes)


def _reason(sentence: str, found: dict[str, None]) -> str:
    """Why a line is no sentence of its own, or "". Empty lines need no reason."""
    if len(sentence) > MAX_CHARACTERS:
        return TOO_LONG
    if sentence and not words_in(sentence):
        return SOUNDLESS
    return REPEATED if sentence in found else ""


def _without_punctuation(part: str) -> str:
    """A part of a sentence between its first and last letter, mark or digit."""
    kept = [index for index, character in enumerate(part) if unicodedata.category(character)[0] in "LMN"]
    return part[kept[0] : kept[-1] + 1] if kept else ""


def _read_words(code: str) -> tuple[str, dict[str, float]]:
    """Where the words of a language come from, and its most frequent words with their frequencies."""
    listed = LISTS / f"words_{code}.txt"
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        return listed.name, {word: 1.0 for line in lines if not line.startswith("#") for word in line.split()}
    try:
        import wordfreq
    except ImportError as error:
        raise InputError(
            f"language {code}: wordfreq, which has its words, is not installed, expected the extra: "
            "pip install 'asr-phones[languages]', or a text (--text FILE)"
        ) from error
    name = WORDFREQ_CODES.get(code, code.split("-")[0])
    if name not in wordfreq.available_languages():
        raise InputError(f"language {code}: not in wordfreq, which has words, expected a text (--text FILE)")
    frequencies = wordfreq.get_frequency_dict(name)
    words = sorted(filter(_is_word, frequencies), key=lambda word: (-frequencies[word], word))[:MOST_WORDS]
    return "wordfreq", {word: float(frequencies[word]) for word in words}


def _is_word(text: str) -> bool:
    """Whether a text has only letters, with their marks and inner apostrophes."""
    inner = text[1:-1].translate(JOINERS)
    return bool(text) and all(unicodedata.category(letter)[0] in "LM" for letter in text[:1] + inner + text[-1:])


def _speakable(words: Sequence[str], language: Language) -> tuple[list[str], Counter[str]]:
    """The words that espeak-ng reads in the language, and why others are left out."""
    usable, left_out = [], Counter[str]()
    for word, transcription in zip(words, transcribe_texts(words, language.file), strict=True):
        try:
            sounds = read_sounds(transcription)
        except Unusable as unusable:
            left_out[unusable.reason] += 1
            continue
        if any(sound.ipa for sound in sounds):
            usable.append(word)
    return usable, left_out
