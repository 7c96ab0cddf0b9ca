"""Synthetic readers: voices of adults and children, their slow read speech, recorded in simulated rooms.

Each reader has its own random generator. The result therefore does not depend on the order or number of worker processes.
Worker processes import this module, so it imports only what they need.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from data_prep.espeak import SpeakingStyle, make_data_folder, synthesize
from data_prep.rooms import random_channel, simulate_recording
from data_prep.speakers import voice_variant

CHILDREN_SHARE = 0.5

VOICES = {
    "child": ((1.15, 1.45), (200.0, 340.0)),
    "female": ((1.06, 1.22), (150.0, 230.0)),
    "male": ((0.9, 1.03), (75.0, 130.0)),
}
"""Kind of voice -> ranges of the formant factor and of the lowest pitch in Hz."""

RATE_RANGE_WPM = (85, 170)
"""Mean rate of a reader in words per minute. A sentence is up to 15 % slower or faster. espeak-ng's minimum is 80."""

WARP_RANGE = (0.92, 1.08)
"""Factor on speed and frequency of the synthesized signal."""

SILENCE_RANGE_S = (0.1, 0.8)
"""Silence before and after the speech."""

SNR_RANGE_DB = (15.0, 55.0)
"""Extends to quiet rooms with close microphones, as in much real speech."""


@dataclass(frozen=True)
class ReaderTask:
    """Input of a worker for one reader: sentences, and the folder of the recordings."""

    index: int
    seed: int
    folder: Path
    sentences: Sequence[str]


def draw_voice(index: int, seed: int) -> tuple[str, str]:
    """Draw the voice of a reader: its kind, one of `VOICES`, and its espeak-ng voice variant."""
    generator = np.random.default_rng([seed, index + 1, 0])
    kind = "child" if generator.random() < CHILDREN_SHARE else ("female", "male")[index % 2]
    tract, base_hz = (generator.uniform(*limits) for limits in VOICES[kind])
    gender = ("female", "male")[index % 2]
    return kind, voice_variant(gender, float(tract), float(base_hz), generator)


def record_reader(task: ReaderTask) -> list[tuple[Path, int]]:
    """Record the sentences of one reader as 16 kHz FLAC in the task's folder; returns (file, number of samples)."""
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as scratch:  # a short path, because espeak-ng limits it
        return _record(task, Path(scratch))


def _record(task: ReaderTask, scratch: Path) -> list[tuple[Path, int]]:
    name = f"R{task.index}"
    espeak_data = scratch / name
    make_data_folder(espeak_data, {name: draw_voice(task.index, task.seed)[1]})
    generator = np.random.default_rng([task.seed, task.index + 1, 1])
    rate_wpm, pitch = generator.uniform(*RATE_RANGE_WPM), generator.uniform(38, 62)
    channel, warp = random_channel(generator), generator.uniform(*WARP_RANGE)
    task.folder.mkdir(parents=True, exist_ok=True)
    recordings = []
    for number, text in enumerate(task.sentences):
        style = SpeakingStyle(
            variant=name,
            rate_wpm=max(80, int(rate_wpm * generator.uniform(0.85, 1.15))),
            pitch=round(pitch + generator.uniform(-5, 5)),
            pitch_range=round(generator.uniform(25, 85)),
        )
        speech = synthesize(espeak_data, text, style, int(generator.integers(1, 2**31)), words=False)
        before, after = np.round(generator.uniform(*SILENCE_RANGE_S, size=2) * speech.sample_rate_hz).astype(int)
        speech = speech.with_silence(int(before), int(after))
        samples = soxr.resample(speech.samples, speech.sample_rate_hz * warp, SAMPLE_RATE_HZ, quality="HQ")
        path = task.folder / f"{number}.flac"
        recorded = simulate_recording(samples, SAMPLE_RATE_HZ, channel, generator, SNR_RANGE_DB)
        soundfile.write(path, recorded, SAMPLE_RATE_HZ)
        recordings.append((path, len(samples)))
    return recordings
