"""Speech synthesizers behind one interface: text, voice and speaking style -> samples, and phones if the engine tells them.

Each engine is optional. Its program or library stays at arm's length: nothing else in the project imports it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr.errors import InputError


@dataclass(frozen=True)
class Voice:
    """A voice of an engine. ``person`` is who was recorded: several engines have voices of the same person."""

    engine: str
    name: str
    person: str
    licence: str


@dataclass(frozen=True)
class Style:
    """Factors on the speaking rate and on the pitch of a voice, and a seed for engines that draw random numbers."""

    rate: float
    pitch: float
    seed: int


@dataclass(frozen=True)
class Spoken:
    """Synthesized speech: samples (samples,) float32 within +-1, and the ARPAbet phones, None if the engine hides them."""

    samples: np.ndarray
    sample_rate_hz: int
    phones: tuple[str, ...] | None


class Engine(Protocol):
    """A synthesizer of English."""

    @property
    def tells_phones(self) -> bool:
        """Whether `speak` returns the phones."""

    def voices(self) -> Sequence[Voice]:
        """The voices of English that are installed; raises InputError, with how to install them, if there are none."""

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text in lower case without punctuation."""


DEFAULT_ENGINES = ("rhvoice", "flite", "festival", "pico", "espeak", "kokoro")
"""Engines that are used unless others are named. Piper is not among them: its voice descends from recordings whose
licence is unclear."""

ENGINES = (*DEFAULT_ENGINES, "piper")


def make_engine(name: str) -> Engine:
    """Make the engine called ``name``, one of `ENGINES`.

    Raises:
        InputError: an unknown name.
    """
    from data_prep import voices_kokoro, voices_libraries, voices_programs

    makers: dict[str, Callable[[], Engine]] = {
        "rhvoice": voices_libraries.RHVoice,
        "flite": voices_programs.Flite,
        "festival": voices_programs.Festival,
        "pico": voices_libraries.Pico,
        "espeak": voices_libraries.Espeak,
        "kokoro": voices_kokoro.Kokoro,
        "piper": voices_libraries.Piper,
    }
    if name not in makers:
        raise InputError(f"engine {name!r} is unknown, expected one of {', '.join(ENGINES)}")
    return makers[name]()
