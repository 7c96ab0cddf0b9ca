"""Pronunciations of words and texts by espeak-ng, in IPA: a grapheme-to-phoneme converter for its hundred languages.

Affricates have tie bars, lengths and diacritics stay with their phones, stress and syllable boundaries are left out. The
phones are those of espeak-ng's synthetic speech (`data_prep.espeak_ipa`).
"""

import re
import unicodedata
from collections.abc import Iterator

from data_prep.espeak import transcribe_texts
from data_prep.espeak_ipa import Sound, read_sounds, to_phones
from data_prep.espeak_languages import find_language
from data_prep.leaving_out import Unusable

SCRIPTS = {
    "ARABIC": "ar fa sd ug ur",
    "ARMENIAN": "hy hyw",
    "BENGALI": "as bn bpy",
    "CHEROKEE": "chr",
    "CJK": "cmn hak yue",
    "CYRILLIC": "ba be bg bs cv kk ky mk nog ru sr tt uk",
    "DEVANAGARI": "hi kok mr ne",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el grc",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "MALAYALAM": "ml",
    "MYANMAR": "my shn",
    "ORIYA": "or",
    "SHAVIAN": "en",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
"""Script, the first word of the Unicode names of its letters -> the languages that espeak-ng reads in it.

In others it spells such letters, or says "Chinese letter". Latin letters are not here: it reads them as another language,
and says so.
"""

TONAL = frozenset({"cmn", "hak", "my", "shn", "th", "vi", "yue"})
"""Languages in which a number at the end of espeak-ng's mnemonics is a tone. In others it distinguishes phonemes."""

_TONE = re.compile(r"[0-9]+$")


class EspeakG2P:
    """Pronounces one of espeak-ng's languages, such as "de" or "cmn". ``tones`` adds tones, in Chao's letters."""

    def __init__(self, language: str, *, tones: bool = False) -> None:
        """Find the language.

        Raises:
            InputError: espeak-ng is missing or lacks the language; the message names near ones.
        """
        self.language = find_language(language)
        self.tones = tones

    def pronounce(self, word: str) -> list[tuple[str, ...]]:
        """The pronunciation of a word; none if it has no sound, or espeak-ng cannot read it in this language.

        Of several words, it is that in a sentence: with liaison in French, weak forms in English.
        """
        if _unreadable(word, self._code):
            return []
        try:
            phones = self._transcribe(word)
        except Unusable:
            return []
        return [phones] if phones else []

    @property
    def _code(self) -> str:
        return self.language.code.split("-")[0]

    def _transcribe(self, text: str) -> tuple[str, ...]:
        (transcription,) = transcribe_texts([unicodedata.normalize("NFC", text)], self.language.file)
        return tuple(phone for sound in read_sounds(transcription) for phone in self._phones(sound))

    def _phones(self, sound: Sound) -> Iterator[str]:
        """The phones of a sound. Its mnemonic ends with its tone, or with ":" if it is long."""
        tone = _TONE.search(sound.mnemonic)
        doubled = sound.ipa == 2 * sound.ipa[: len(sound.ipa) // 2]
        suffix = ""
        if tone and self._code in TONAL:
            suffix = tone[0]
        elif sound.mnemonic.endswith(":") and (doubled or sound.ipa.endswith("ː")):
            suffix = ":"
        yield from to_phones(sound, suffix, self.language.code if self.tones else "")


def _unreadable(text: str, code: str) -> str:
    """Which character of a text espeak-ng cannot read in a language, "" if there is none."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
            return f"control character {character!r}"
        script = unicodedata.name(character, "").split(" ")[0]
        if code not in SCRIPTS.get(script, code).split():
            return f"letter {character!r}"
    return ""
