"""espeak-ng through ctypes: a text and a voice -> samples, and where each of its phonemes and words begins.

The library comes from the wheel `espeakng_loader` (an extra: espeak-ng is GPLv3, nothing else here needs it). It keeps
its state in global variables, some of which survive even its own termination, so it is loaded anew for every utterance:
how it says a text then depends on nothing that was said before. That costs about 5 ms.
"""

import _ctypes
import ctypes
import os
import shutil
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from asr.errors import InputError

SYNCHRONOUS_OUTPUT = 2
BUFFER_MS = 200
"""Length of one piece of output; the samples depend on it."""
PHONEME_EVENTS_AND_NO_EXIT = 0x8001
UTF8_UNTIL_THE_END_PAUSE = 0x1001
EVENT_LIST_END, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
RATE, VOLUME, PITCH, PITCH_RANGE, WORD_GAP = 1, 2, 3, 4, 7
"""Numbers of espeak-ng's parameters."""
UNCLIPPED_VOLUME = 60
"""In percent; at 100 loud voices clip."""
ARTICLE_PHONEMES = {"a": 1, "an": 2, "the": 2}


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
class Manner:
    """How one utterance is spoken: voice variant, words a minute, and pitch and its range, each from 0 to 99."""

    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Phoneme:
    """A phoneme event: espeak-ng's mnemonic, its first sample, and the word (from 0) of the text it belongs to."""

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
        """The same with so many zero samples before its beginning and after its last sound."""
        end = int(np.flatnonzero(self.samples)[-1]) + 1
        phonemes = tuple(replace(p, start=min(p.start, end) + before) for p in self.phonemes)
        return Speech(np.pad(self.samples[:end], (before, after)), self.sample_rate_hz, phonemes)


def require_espeak() -> ModuleType:
    """The module `espeakng_loader`.

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
    """Fill ``folder`` with espeak-ng's data and, in place of its voice variants, ours: name -> file text.

    The data are links; where the system does not let a user make any, as Windows may not, copies of 18 MB.
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


def speak(data_folder: Path, text: str, manner: Manner, seed: int, *, words: bool = True) -> Speech:
    """American English speech; the same arguments give the same samples, whatever was spoken before.

    Without ``words`` the phonemes are left out, and with them the search for the words they belong to.

    Raises:
        InputError: espeak-ng is missing, or cannot use the data folder (its path must be under 160 characters).
    """
    if not (data_folder / "voices" / "!v" / manner.variant).is_file():  # espeak-ng would use the base voice, silently
        raise InputError(f"{data_folder}: no voice variant {manner.variant!r}, expected a file in voices/!v")
    library = ctypes.CDLL(require_espeak().get_library_path())
    try:
        speech, phonemes = _speak(library, data_folder, text, manner, seed)
    finally:
        library.espeak_Terminate()
        _unload(library)
    return replace(speech, phonemes=_with_words(phonemes, text)) if words else speech


def _speak(
    library: ctypes.CDLL, data_folder: Path, text: str, manner: Manner, seed: int
) -> tuple[Speech, list[tuple[str, int, int]]]:
    folder = os.fsencode(data_folder)
    rate_hz = library.espeak_Initialize(SYNCHRONOUS_OUTPUT, BUFFER_MS, folder, PHONEME_EVENTS_AND_NO_EXIT)
    if rate_hz <= 0:
        raise InputError(f"{data_folder}: espeak-ng cannot use this data folder, expected a path under 160 characters")
    pieces: list[np.ndarray] = []
    events: list[tuple[int, int, int, bytes]] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, event: "ctypes._Pointer[_Event]") -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while event[index].type != EVENT_LIST_END:
            found = event[index]
            events.append((found.type, found.sample, found.text_position, bytes(found.name).split(b"\0")[0]))
            index += 1
        return 0

    callback = _Callback(collect)  # kept in a variable: the library holds no reference that Python knows of
    library.espeak_SetSynthCallback(callback)
    _set_manner(library, manner)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    data = text.encode("ascii") + b"\0"
    library.espeak_Synth(
        data, ctypes.c_size_t(len(data)), 0, 1, 0, UTF8_UNTIL_THE_END_PAUSE, ctypes.c_void_p(), ctypes.c_void_p()
    )
    library.espeak_Synchronize()
    found = [
        (name.decode("ascii"), sample, position) for kind, sample, position, name in events if kind == EVENT_PHONEME
    ]
    return Speech(np.concatenate(pieces) / 32768.0, rate_hz, ()), found


def _set_manner(library: ctypes.CDLL, manner: Manner) -> None:
    if library.espeak_SetVoiceByName(f"en-us+{manner.variant}".encode("ascii")) != 0:
        raise InputError(f"espeak-ng does not know voice 'en-us+{manner.variant}', expected its American English")
    settings = {
        RATE: manner.rate_wpm,
        VOLUME: UNCLIPPED_VOLUME,
        PITCH: manner.pitch,
        PITCH_RANGE: manner.pitch_range,
        WORD_GAP: 0,
    }
    for parameter, value in settings.items():
        library.espeak_SetParameter(parameter, value, 0)


def _with_words(phonemes: Sequence[tuple[str, int, int]], text: str) -> tuple[Phoneme, ...]:
    """Phonemes (mnemonic, first sample, place of their word in the text, from 1) with the number of their word.

    espeak-ng takes some pairs ("of the") for one word; there the article's phonemes are the last ones of the pair.
    """
    words = text.split(" ")
    starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words))]
    owners = [bisect_right(starts, position - 1) - 1 for _, _, position in phonemes]
    for index, word in enumerate(words):
        if index not in owners:
            pair = [place for place, owner in enumerate(owners) if owner == index - 1 and is_spoken(phonemes[place][0])]
            count = ARTICLE_PHONEMES.get(word)
            if count is None or len(pair) <= count:
                raise InputError(f"sentence {text!r}: espeak-ng joins {word!r} to the word before, expected an article")
            for place in pair[-count:]:
                owners[place] = index
    return tuple(Phoneme(name, start, owner) for (name, start, _), owner in zip(phonemes, owners, strict=True))


def is_spoken(mnemonic: str) -> bool:
    """False for pauses and for ";", which only colours the next vowel."""
    return mnemonic[0] not in "_;"


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
