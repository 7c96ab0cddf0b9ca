"""espeak-ng's phonemes -> phones in IPA: affricates, diphthongs, long and nasal vowels are single phones.

espeak-ng writes most phonemes in IPA, but some in ASCII or without their diacritics, and tones as numbers. Here affricates
get tie bars, aspiration is ʰ, and a tone is written in the letters of Chao behind the vowel that bears it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from data_prep.espeak import SEPARATOR, Phoneme, Transcription
from data_prep.leaving_out import Unusable

SWITCHED = "words that espeak-ng reads as another language"
UNMATCHED = "phonemes that espeak-ng speaks and writes differently"
"""Why an utterance is left out."""

STRESS = "',=%"
"""Marks of stress at the start of a mnemonic."""

MODIFIERS = ";:"
"""First characters of phonemes that only modify their neighbours: palatalization, length."""

TIE, SYLLABIC, VOICELESS, TENSE = "\u0361", "\u0329", "\u0325", "\u0348"

WHOLE = {
    "i.": "ɻ" + SYLLABIC, "i̪": "ɹ" + SYLLABIC,  # the vowels of Mandarin shi and si
    "ər": "ɚ", "er": "ɚ", "oe": "ø", "u\"": "ʉ", "1": "ɨ", "A": "ɑ", "N": "ŋ", "S": "ʃ", "X": "χ", "tS": "t͡ʃ", "dZ": "d͡ʒ",
    "sx": "ɧ", "r.": "ɽ", "t[": "t̪", "t`": "tʼ", "l-": "ɫ", "!": "",
}  # fmt: skip
"""Symbols of espeak-ng that are not IPA -> IPA."""

PARTS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"([lmnrŋ])#$", r"\1" + VOICELESS),
    (r"([kpqst])-$", r"\1" + TENSE),
    (r"[#\-^`]$", ""),
    ("ʦ", "ts"),
    ("ε", "ɛ"),
    ("Φ", "ɸ"),
    (r"\?", "ʔ"),
    (":", "ː"),
    (r"ts\.", "ʈʂ"),
    (r"s\.", "ʂ"),
    (r"(?<=[aiu])\.", ""),
    ("ʲʲ", "ʲ"),
    ("nɡ$", "ŋ"),
    (r"(?<=[^\Waeiouəɐ])h$", "ʰ"),
    (r"^([tdʈɖ])(?=[sʃɕʂzʒʑʐɬ])", r"\1" + TIE),
    (r"^p(?=f)", "p" + TIE),
)
"""Patterns in other symbols -> IPA, one after the other."""

TONES = {
    "vi": dict(zip("1234567", ("˧", "˨˩", "˧˥", "˧˩˧", "˧˨˥", "˧˨", "˧"), strict=True)),
    "yue": dict(zip("1234567", ("˥", "˧˥", "˧", "˨˩", "˩˧", "˨", "˥"), strict=True)),
}
"""Language -> number of a tone -> its letters. Elsewhere numbers of several digits are pitches from 1 (low) to 5."""

PITCHES = str.maketrans("12345", "˩˨˧˦˥")
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Sound(NamedTuple):
    """A phoneme as espeak-ng writes it: its mnemonic, tone and length included, and its IPA, both without stress."""

    mnemonic: str
    ipa: str


def is_sound(mnemonic: str) -> bool:
    """False for pauses and for modifiers of neighbours."""
    return not mnemonic.startswith(("_", *MODIFIERS))


def phones_of(phonemes: Sequence[Phoneme], transcription: Transcription, tones: str) -> list[tuple[str, ...]]:
    """The phones of each phoneme that has sound: one, rarely two, none if espeak-ng has no IPA for it.

    ``tones`` is the language whose tones are written, "" to leave them out.

    Raises:
        Unusable: a word is read as one of another language, or the transcription does not match the phonemes.
    """
    sounds = read_sounds(transcription)
    names = [name for phoneme in phonemes if is_sound(name := phoneme.name.lstrip(STRESS))]
    if len(sounds) != len(names):
        raise Unusable(UNMATCHED)
    pairs = list(zip(sounds, names, strict=True))
    if not all(sound.mnemonic.startswith(name) for sound, name in pairs):
        raise Unusable(UNMATCHED)
    return [to_phones(sound, sound.mnemonic[len(name) :], tones) for sound, name in pairs]


def read_sounds(transcription: Transcription) -> list[Sound]:
    """The phonemes of a transcription, without pauses and modifiers.

    Raises:
        Unusable: a word is read as one of another language, or the notations of a word do not match.
    """
    if "(" in transcription.ipa:
        raise Unusable(SWITCHED)
    words = (text.split(" ") for text in (transcription.mnemonics, transcription.ipa))
    return [
        Sound(mnemonic.lstrip(STRESS), ipa.lstrip("ˈˌ"))
        for pair in zip(*words, strict=False)
        for mnemonic, ipa in _align(*(word.split(SEPARATOR) for word in pair))
        if mnemonic and is_sound(mnemonic.lstrip(STRESS))
    ]


def _align(mnemonics: Sequence[str], symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair the mnemonics of a word with their IPA. A modifier may have a symbol of its own, or be in its neighbour's."""
    optional = sum(mnemonic.startswith(tuple(MODIFIERS)) for mnemonic in mnemonics)
    own = len(symbols) - (len(mnemonics) - optional)
    if not 0 <= own <= optional:
        raise Unusable(UNMATCHED)
    position = 0
    for mnemonic in mnemonics:
        if mnemonic.startswith(tuple(MODIFIERS)):
            optional -= 1
            if own == 0 or (own <= optional and symbols[position] not in ("", "ʲ")):
                continue
            own -= 1
        yield mnemonic, symbols[position]
        position += 1


def to_phones(sound: Sound, suffix: str, tones: str) -> tuple[str, ...]:
    """The phones of a phoneme; ``suffix`` is its tone in digits, its length ":", or "".

    A vowel with ŋ, which some languages of espeak-ng have as one phoneme, is two phones.
    """
    symbol, tone = sound.ipa, ""
    if suffix:
        half = symbol[: len(symbol) // 2]  # espeak-ng has no symbol for some tones and lengths, and repeats the vowel
        bare = half if symbol == half + half else symbol[:-1]
        tone = _tone_letters(suffix, tones) if suffix.isdigit() and tones else ""
        symbol = bare if suffix.isdigit() else bare + "ː"
    symbol = unicodedata.normalize("NFC", to_ipa(symbol))
    if len(symbol) > 1 and symbol.endswith("ŋ"):
        return symbol[:-1] + tone, "ŋ"
    return (symbol + tone,) if symbol else ()


def to_ipa(symbol: str) -> str:
    """A symbol of espeak-ng without stress and tone, in IPA."""
    if symbol in WHOLE:
        return WHOLE[symbol]
    for pattern, ipa in PARTS:
        symbol = re.sub(pattern, ipa, symbol)
    return symbol


def _tone_letters(number: str, language: str) -> str:
    """The letters of a tone. Superscripts stand for the numbers of tones whose pitches are not known here."""
    known = TONES.get(language.split("-")[0], {}).get(number)
    if known is None:
        known = number.translate(PITCHES) if len(number) > 1 else number.translate(SUPERSCRIPTS)
    return known
