"""Made readers: voices of adults and children that read aloud, slowly, in rooms; their recordings.

Everything of a reader comes from a random generator of its own, so that readers can be made in any order and by any number
of processes. This module does not import what a worker process has no use for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from data_prep.espeak import Manner, make_data_folder, speak
from data_prep.rooms import random_channel, record
from data_prep.speakers import voice_variant

CHILDREN_SHARE = 0.5
VOICES = {
    "child": ((1.15, 1.45), (200.0, 340.0)),
    "female": ((1.06, 1.22), (150.0, 230.0)),
    "male": ((0.9, 1.03), (75.0, 130.0)),
}
"""Ranges of the factor on all formants, and of the lowest pitch in Hz."""
RATE_RANGE_WPM = (85, 170)
"""Of a reader on average; a sentence is up to 15 % slower or faster. espeak-ng's slowest is 80."""
WARP_RANGE = (0.92, 1.08)
SILENCE_RANGE_S = (0.1, 0.8)
"""Before and after what is said."""
SNR_RANGE_DB = (15.0, 55.0)
"""Up to quiet rooms with close microphones, which much real speech is recorded with."""


@dataclass(frozen=True)
class ReaderTask:
    """What a worker process needs to make one reader: the sentences, where to put the recordings, a short scratch path."""

    index: int
    seed: int
    folder: Path
    scratch: Path
    sentences: Sequence[str]


def voice_of(index: int, seed: int) -> tuple[str, str]:
    """What kind of `VOICES` a reader (from 0) has, and its espeak-ng voice variant."""
    generator = np.random.default_rng([seed, index + 1, 0])
    kind = "child" if generator.random() < CHILDREN_SHARE else ("female", "male")[index % 2]
    tract, base_hz = (generator.uniform(*limits) for limits in VOICES[kind])
    gender = ("female", "male")[index % 2]
    return kind, voice_variant(gender, float(tract), float(base_hz), generator)


def read_aloud(task: ReaderTask) -> list[tuple[Path, int]]:
    """Record all sentences of one reader as FLAC at 16 kHz in the task's folder; the files and their numbers of samples."""
    name = f"R{task.index}"
    espeak_data = task.scratch / name
    make_data_folder(espeak_data, {name: voice_of(task.index, task.seed)[1]})
    generator = np.random.default_rng([task.seed, task.index + 1, 1])
    rate_wpm, pitch = generator.uniform(*RATE_RANGE_WPM), generator.uniform(38, 62)
    channel, warp = random_channel(generator), generator.uniform(*WARP_RANGE)
    task.folder.mkdir(parents=True)
    recordings = []
    for number, text in enumerate(task.sentences):
        manner = Manner(
            variant=name,
            rate_wpm=max(80, int(rate_wpm * generator.uniform(0.85, 1.15))),
            pitch=round(pitch + generator.uniform(-5, 5)),
            pitch_range=round(generator.uniform(25, 85)),
        )
        speech = speak(espeak_data, text, manner, int(generator.integers(1, 2**31)), words=False)
        before, after = np.round(generator.uniform(*SILENCE_RANGE_S, size=2) * speech.sample_rate_hz).astype(int)
        speech = speech.with_silence(int(before), int(after))
        samples = soxr.resample(speech.samples, speech.sample_rate_hz * warp, SAMPLE_RATE_HZ, quality="HQ")
        path = task.folder / f"{number}.flac"
        recorded = record(samples, SAMPLE_RATE_HZ, channel, generator, SNR_RANGE_DB)
        soundfile.write(path, recorded, SAMPLE_RATE_HZ)
        recordings.append((path, len(samples)))
    return recordings
