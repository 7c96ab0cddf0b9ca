"""Speakers of `voices`: a voice of an engine, its pitch and vocal tract, and recordings of what it reads.

Each speaker has its own random generator, so the result does not depend on the order or number of worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.errors import InputError
from data_prep.voices_channels import degrade
from data_prep.voices_engines import Engine, Spoken, Style, Voice, make_engine
from data_prep.voices_texts import Texts, load_texts

UTTERANCES = 12
"""Utterances of a speaker."""

RATE_RANGE = (0.75, 1.35)
"""Factor on the usual rate of a voice."""

PITCH_RANGE = (0.85, 1.2)
"""Factor on the pitch of a voice, besides that of the vocal tract."""

TRACT_RANGE = (0.85, 1.25)
"""Factor on all frequencies of a voice: above 1, the speaker is smaller."""

WARPED_SHARE = 0.8
"""Share of speakers whose vocal tract differs from that of the voice."""

MAX_DIFFERENCE = 0.13
"""Largest share of phones in which a spoken text may differ from CMUdict."""

MAX_REFUSED = 200
"""Texts of one speaker that may differ more. Usually one in thirty does."""


@dataclass(frozen=True)
class SpeakerTask:
    """Input of a worker process: the speaker's voice, seed and folder, and the files of babble and sentences."""

    voice: Voice
    seed: tuple[int, ...]
    folder: Path
    babble: Path
    sentences: Path


@dataclass(frozen=True)
class Recording:
    """One utterance: its file, length in samples at 16 kHz, words and phones, and how it was made."""

    path: Path
    num_samples: int
    words: str
    phones: tuple[str, ...]
    details: dict[str, str]


@dataclass(frozen=True)
class Recordings:
    """The utterances of a speaker, and the number of texts that its engine spoke otherwise than CMUdict."""

    utterances: tuple[Recording, ...]
    refused: int


def record_speaker(task: SpeakerTask) -> Recordings:
    """Record a speaker as 16 kHz FLAC in the task's folder.

    Raises:
        InputError: the engine fails, or speaks hardly any text as CMUdict has it.
    """
    generator = np.random.default_rng(task.seed)
    warped = generator.random() < WARPED_SHARE
    tract = _draw_factor(TRACT_RANGE, generator) if warped else 1.0
    rate, pitch = _draw_factor(RATE_RANGE, generator), _draw_factor(PITCH_RANGE, generator)
    seed = int(generator.integers(1, 2**31))
    engine, texts, babble = _load_engine(task.voice.engine), load_texts(task.sentences), _load_babble(task.babble)
    task.folder.mkdir(parents=True, exist_ok=True)
    utterances: list[Recording] = []
    refused = 0
    while len(utterances) < UTTERANCES:
        if refused > MAX_REFUSED:
            voice = f"{task.voice.engine}: voice {task.voice.name}"
            raise InputError(f"{voice} speaks {refused} of {refused + len(utterances)} texts otherwise than CMUdict")
        kind, words = texts.draw(generator, unambiguous=not engine.tells_phones)
        utterance_rate = float(np.clip(rate * generator.uniform(0.9, 1.1), *RATE_RANGE))
        # Resampling by the tract factor speeds the speech up, too.
        style = Style(utterance_rate / tract, pitch * float(generator.uniform(0.96, 1.04)), seed)
        spoken = _speak(engine, " ".join(words), task.voice, style)
        phones = None if spoken is None else _match(texts, words, spoken)
        if spoken is None or phones is None:
            refused += 1
            continue
        speech = soxr.resample(spoken.samples.astype(np.float64), spoken.sample_rate_hz * tract, SAMPLE_RATE_HZ)
        degraded = degrade(speech, SAMPLE_RATE_HZ, babble, generator)
        path = task.folder / f"{len(utterances)}.flac"
        soundfile.write(path, degraded.samples, SAMPLE_RATE_HZ)
        details = {"engine": task.voice.engine, "voice": task.voice.name, "tract": f"{tract:.3f}"}
        details |= {"rate": f"{utterance_rate:.3f}", "text": kind, "condition": degraded.condition}
        utterances.append(Recording(path, len(degraded.samples), " ".join(words), phones, details))
    return Recordings(tuple(utterances), refused)


def _draw_factor(limits: tuple[float, float], generator: np.random.Generator) -> float:
    """Draw a factor, uniform on a logarithmic scale."""
    return float(np.exp(generator.uniform(*np.log(limits))))


def _speak(engine: Engine, text: str, voice: Voice, style: Style) -> Spoken | None:
    """Speak a text; None if the engine says nothing."""
    spoken = engine.speak(text, voice, style)
    return spoken if len(spoken.samples) and np.any(spoken.samples) else None


def _match(texts: Texts, words: Sequence[str], spoken: Spoken) -> tuple[str, ...] | None:
    """CMUdict's phones of what was spoken, or None if it was something else."""
    phones, distance = texts.pronounce(words, spoken.phones)
    return phones if distance <= MAX_DIFFERENCE * len(phones) else None


@cache
def _load_engine(name: str) -> Engine:
    return make_engine(name)


@cache
def _load_babble(path: Path) -> np.ndarray:
    samples: np.ndarray = soundfile.read(path, dtype="float64")[0]
    return samples
