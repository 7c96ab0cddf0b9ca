"""espeak-ng through ctypes: text and speaking style -> samples, and the start of each phoneme with its word.

The library comes from the wheel `espeakng_loader`, an optional extra because espeak-ng is GPLv3. espeak-ng keeps its state
in global variables, some of which survive `espeak_Terminate`. This module therefore reloads the library for every utterance
(about 5 ms), so that an utterance does not depend on earlier ones.
"""

import _ctypes
import ctypes
import os
import shutil
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from asr.errors import InputError

SYNCHRONOUS_OUTPUT = 2

BUFFER_MS = 200
"""Length of one block of output. The samples depend on it."""

PHONEME_EVENTS_AND_NO_EXIT = 0x8001
UTF8_UNTIL_THE_END_PAUSE = 0x1001
EVENT_LIST_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7

RATE, VOLUME, PITCH, PITCH_RANGE, WORD_GAP = 1, 2, 3, 4, 7
"""espeak-ng's parameter numbers."""

UNCLIPPED_VOLUME = 60
"""Percent. At 100, loud voices clip."""

SEPARATOR = "\x1f"
"""Separates the phonemes of a word in a `Transcription`."""

MNEMONICS, IPA = 0, 2
"""Notations of espeak-ng's transcriptions."""

ARTICLE_PHONEMES = {"a": 1, "an": 2, "the": 2}
"""Number of phonemes of each article."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_ubyte * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class SpeakingStyle:
    """Voice variant, rate in words per minute, and pitch and pitch range, each from 0 to 99, of one utterance.

    ``language`` is the name or the file of one of espeak-ng's languages.
    """

    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    language: str = "en-us"


@dataclass(frozen=True)
class Phoneme:
    """A phoneme event: espeak-ng's mnemonic, the first sample, and the index of its word in the text."""

    name: str
    start: int
    word: int


@dataclass(frozen=True)
class Speech:
    """Clean speech, (samples,) float64 in [-1, 1], with its phonemes in order."""

    samples: np.ndarray
    sample_rate_hz: int
    phonemes: tuple[Phoneme, ...]

    def with_silence(self, before: int, after: int) -> "Speech":
        """Copy with ``before`` zero samples prepended and exactly ``after`` zero samples following the last sound."""
        end = int(np.flatnonzero(self.samples)[-1]) + 1
        phonemes = tuple(replace(phoneme, start=min(phoneme.start, end) + before) for phoneme in self.phonemes)
        return Speech(np.pad(self.samples[:end], (before, after)), self.sample_rate_hz, phonemes)


@dataclass(frozen=True)
class Transcription:
    """espeak-ng's phonemes of a text as mnemonics and in IPA: words with spaces between them, phonemes with `SEPARATOR`."""

    mnemonics: str
    ipa: str


def require_espeak() -> ModuleType:
    """Import and return the module `espeakng_loader`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError("espeak-ng is not installed, expected the extra: pip install 'asr-phones[synth]'") from error
    module: ModuleType = espeakng_loader
    return module


def make_data_folder(folder: Path, variants: Mapping[str, str]) -> None:
    """Create a data folder for espeak-ng with our voice variants (name -> file text) instead of its own.

    The other data are symbolic links, or copies (18 MB) if the system does not allow links, as on Windows.
    """
    original = Path(require_espeak().get_data_path())
    (folder / "voices" / "!v").mkdir(parents=True)
    for entry in original.iterdir():
        if entry.name != "voices":
            try:
                (folder / entry.name).symlink_to(entry)
            except OSError:
                (shutil.copytree if entry.is_dir() else shutil.copy)(entry, folder / entry.name)
    for name, text in variants.items():
        (folder / "voices" / "!v" / name).write_text(text, encoding="ascii")


def synthesize(data_folder: Path, text: str, style: SpeakingStyle, seed: int, *, words: bool = True) -> Speech:
    """Synthesize American English; the same arguments always give the same samples.

    With ``words=False`` the result has no phonemes.

    Raises:
        InputError: espeak-ng is missing or cannot use the data folder (its path must be under 160 characters), or a
            phoneme cannot be assigned to a word.
    """
    if not (data_folder / "voices" / "!v" / style.variant).is_file():  # espeak-ng would silently use the base voice
        raise InputError(f"{data_folder}: no voice variant {style.variant!r}, expected a file in voices/!v")
    with _loaded_library() as library:
        speech, phonemes = _run_espeak(library, data_folder, text, style, seed)
    return replace(speech, phonemes=_assign_words(phonemes, text)) if words else speech


def synthesize_transcribed(
    data_folder: Path, text: str, style: SpeakingStyle, seed: int
) -> tuple[Speech, Transcription]:
    """Synthesize any of espeak-ng's languages; the words of the phonemes are -1.

    Raises:
        InputError: espeak-ng is missing or cannot use the data folder (its path must be under 160 characters).
    """
    with _loaded_library() as library:
        speech, phonemes = _run_espeak(library, data_folder, text, style, seed)
        transcription = Transcription(_transcribe(library, text, MNEMONICS), _transcribe(library, text, IPA))
    return replace(speech, phonemes=tuple(Phoneme(name, start, -1) for name, start, _ in phonemes)), transcription


def transcribe_texts(texts: Iterable[str], language: str) -> list[Transcription]:
    """Transcribe texts in a language, without speech.

    Raises:
        InputError: espeak-ng is missing or has no such language.
    """
    with _loaded_library() as library:
        _initialize(library, Path(require_espeak().get_data_path()))
        if library.espeak_SetVoiceByName(language.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {language!r}, expected one of its languages")
        return [
            Transcription(*(_transcribe(library, text, notation) for notation in (MNEMONICS, IPA))) for text in texts
        ]


@contextmanager
def _loaded_library() -> Iterator[ctypes.CDLL]:
    library = ctypes.CDLL(require_espeak().get_library_path())
    try:
        yield library
    finally:
        library.espeak_Terminate()
        _unload(library)


def _initialize(library: ctypes.CDLL, data_folder: Path) -> int:
    """Initialize espeak-ng; returns its sample rate in Hz."""
    folder = os.fsencode(data_folder)
    rate_hz = int(library.espeak_Initialize(SYNCHRONOUS_OUTPUT, BUFFER_MS, folder, PHONEME_EVENTS_AND_NO_EXIT))
    if rate_hz <= 0:
        raise InputError(f"{data_folder}: espeak-ng cannot use this data folder, expected a path under 160 characters")
    return rate_hz


def _transcribe(library: ctypes.CDLL, text: str, notation: int) -> str:
    """The phonemes of a text in a notation, clause by clause with spaces between them."""
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    data = ctypes.create_string_buffer(text.encode("utf-8"))
    rest = ctypes.c_void_p(ctypes.addressof(data))
    clauses = []
    while rest.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), 1, notation | ord(SEPARATOR) << 8).decode())
    return " ".join(clauses)


def _run_espeak(
    library: ctypes.CDLL, data_folder: Path, text: str, style: SpeakingStyle, seed: int
) -> tuple[Speech, list[tuple[str, int, int]]]:
    """Synthesize with a loaded library; returns speech without phonemes, and (mnemonic, first sample, text position)."""
    rate_hz = _initialize(library, data_folder)
    blocks: list[np.ndarray] = []
    events: list[tuple[int, int, int, bytes]] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, event: "ctypes._Pointer[_Event]") -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while event[index].type != EVENT_LIST_END:
            current = event[index]
            events.append((current.type, current.sample, current.text_position, bytes(current.name).split(b"\0")[0]))
            index += 1
        return 0

    callback = _Callback(collect)  # the variable keeps it alive: Python does not see the library's reference
    library.espeak_SetSynthCallback(callback)
    _set_style(library, style)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    data = text.encode("utf-8") + b"\0"
    library.espeak_Synth(
        data, ctypes.c_size_t(len(data)), 0, 1, 0, UTF8_UNTIL_THE_END_PAUSE, ctypes.c_void_p(), ctypes.c_void_p()
    )
    library.espeak_Synchronize()
    phonemes = [
        (name.decode("ascii"), sample, position) for kind, sample, position, name in events if kind == EVENT_PHONEME
    ]
    return Speech(np.concatenate(blocks) / 32768.0, rate_hz, ()), phonemes


def _set_style(library: ctypes.CDLL, style: SpeakingStyle) -> None:
    voice = f"{style.language}+{style.variant}"
    if library.espeak_SetVoiceByName(voice.encode("ascii")) != 0:
        raise InputError(f"espeak-ng has no voice {voice!r}, expected one of its languages")
    settings = {
        RATE: style.rate_wpm,
        VOLUME: UNCLIPPED_VOLUME,
        PITCH: style.pitch,
        PITCH_RANGE: style.pitch_range,
        WORD_GAP: 0,
    }
    for parameter, value in settings.items():
        library.espeak_SetParameter(parameter, value, 0)


def _assign_words(phonemes: Sequence[tuple[str, int, int]], text: str) -> tuple[Phoneme, ...]:
    """Assign phonemes (mnemonic, first sample, position of their word in the text, from 1) to the words of a text.

    espeak-ng joins some pairs ("of the") into one word. The last phonemes of such a pair belong to the article.
    """
    words = text.split(" ")
    word_starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words))]
    owners = [bisect_right(word_starts, position - 1) - 1 for _, _, position in phonemes]
    for index, word in enumerate(words):
        if index not in owners:
            pair = [i for i, owner in enumerate(owners) if owner == index - 1 and has_sound(phonemes[i][0])]
            count = ARTICLE_PHONEMES.get(word)
            if count is None or len(pair) <= count:
                raise InputError(
                    f"sentence {text!r}: espeak-ng joins {word!r} to the previous word, expected an article"
                )
            for i in pair[-count:]:
                owners[i] = index
    return tuple(Phoneme(name, start, owner) for (name, start, _), owner in zip(phonemes, owners, strict=True))


def has_sound(mnemonic: str) -> bool:
    """False for pauses and for ";", which only modifies the next vowel."""
    return mnemonic[0] not in "_;"


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
