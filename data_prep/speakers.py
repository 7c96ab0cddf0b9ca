"""Made speakers: who they are, how they speak, and their recordings with TIMIT's label files.

Everything of a speaker comes from a random generator of its own, so that speakers can be made in any order and by any
number of processes. This module does not import what a worker process has no use for.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from data_prep.espeak import Manner, Speech, make_data_folder, speak
from data_prep.rooms import Channel, random_channel, record
from data_prep.segments import Segment, label
from data_prep.sentences import words_of

MAX_SPEAKERS = 26**3
NAME_STEP = 7919
"""Has no divisor in common with 26 ** 3, so that neighbours get unlike names and no two get one."""
NAME_END = "9"
"""No name in TIMIT ends so: a model of made speech can be validated on TIMIT's own speakers."""
DIALECTS = 8
RATE_RANGE_WPM = (140, 260)
SPEAKER_RATE_RANGE_WPM = (140, 220)
"""Of a speaker on average; an utterance is up to a tenth slower or faster."""
SILENCE_RANGE_S = (0.08, 0.3)
"""Before and after what is said."""


@dataclass(frozen=True)
class Speaker:
    """A made speaker. ``warp`` scales time and frequency of what espeak-ng says, consonants included."""

    name: str
    sex: str
    dialect: str
    variant: str
    rate_wpm: float
    pitch: float
    pitch_range: float
    warp: float
    channel: Channel


@dataclass(frozen=True)
class SpeakerTask:
    """What a worker process needs to make one speaker: texts, each with its name, and where to put the recordings.

    ``scratch`` is a folder for what espeak-ng needs, with a short path.
    """

    index: int
    seed: int
    folder: Path
    scratch: Path
    sentences: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recording:
    """One utterance on disk: its sentence's name, its words, and its phones with boundaries in samples at 16 kHz."""

    name: str
    words: str
    num_samples: int
    segments: tuple[Segment, ...]


def make_speaker(index: int, seed: int) -> Speaker:
    """The speaker of that number (from 0): women and men by turns; the same arguments give the same speaker."""
    generator = _generator(index, seed, stream=0)
    sex = "fm"[index % 2]
    number = (index * NAME_STEP + 1) % MAX_SPEAKERS
    letters = "".join(chr(ord("A") + number // 26**place % 26) for place in range(3))
    return Speaker(
        name=f"{sex.upper()}{letters}{NAME_END}",
        sex=sex,
        dialect=f"DR{index // 2 % DIALECTS + 1}",
        variant=_variant(sex, generator),
        rate_wpm=float(generator.uniform(*SPEAKER_RATE_RANGE_WPM)),
        pitch=float(generator.uniform(38, 62)),
        pitch_range=float(generator.uniform(25, 85)),
        warp=float(generator.uniform(0.94, 1.06)),
        channel=random_channel(generator),
    )


def record_speaker(task: SpeakerTask) -> list[Recording]:
    """Speak, record and write all sentences of one speaker: .WAV, .PHN, .WRD and .TXT in the task's folder."""
    speaker = make_speaker(task.index, task.seed)
    generator = _generator(task.index, task.seed, stream=1)
    task.folder.mkdir(parents=True)
    # A data folder for each speaker, since espeak-ng knows 350 voices at most, those of its own included.
    espeak_data = task.scratch / speaker.name
    make_data_folder(espeak_data, {speaker.name: speaker.variant})
    recordings = []
    for name, text in task.sentences:
        manner = Manner(
            variant=speaker.name,
            rate_wpm=int(np.clip(speaker.rate_wpm * generator.uniform(0.9, 1.1), *RATE_RANGE_WPM)),
            pitch=round(speaker.pitch + generator.uniform(-5, 5)),
            pitch_range=round(speaker.pitch_range + generator.uniform(-10, 10)),
        )
        speech = speak(espeak_data, text, manner, int(generator.integers(1, 2**31)))
        before, after = np.round(generator.uniform(*SILENCE_RANGE_S, size=2) * speech.sample_rate_hz).astype(int)
        speech = speech.with_silence(int(before), int(after))
        samples, segments = _at_model_rate(speech, label(speech), speaker.warp)
        samples = record(samples, SAMPLE_RATE_HZ, speaker.channel, generator)
        recordings.append(Recording(name, " ".join(words_of(text)), len(samples), segments))
        _write(task.folder / name, samples, segments, text)
    return recordings


def _generator(index: int, seed: int, stream: int) -> np.random.Generator:
    """Independent of every other speaker's and of the sentences' (which is [seed, 0])."""
    return np.random.default_rng([seed, index + 1, stream])


def _variant(sex: str, generator: np.random.Generator) -> str:
    """A voice within the range of a sex."""
    low_hz, high_hz = (150, 230) if sex == "f" else (75, 130)
    tract = generator.uniform(1.06, 1.22) if sex == "f" else generator.uniform(0.9, 1.03)
    return voice_variant("female" if sex == "f" else "male", tract, generator.uniform(low_hz, high_hz), generator)


def voice_variant(gender: str, tract: float, base_hz: float, generator: np.random.Generator) -> str:
    """An espeak-ng voice variant: a random way to use a voice of that gender, formant factor and lowest pitch."""
    lines = ["language variant", f"gender {gender}"]
    lines.append(f"pitch {base_hz:.0f} {base_hz * generator.uniform(1.2, 1.6):.0f}")
    for formant in range(9):
        frequency = 100 * tract * generator.uniform(0.95, 1.05)
        height, width = generator.uniform(75, 115), generator.uniform(80, 150)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    breath = generator.uniform(0, 3) * generator.uniform(0, 1, size=8)
    lines.append("breath " + " ".join(f"{level:.0f}" for level in breath))
    lines.append(f"flutter {generator.integers(0, 9)}")
    lines.append(f"roughness {generator.integers(0, 4)}")
    low, middle, high = generator.uniform(100, 200), generator.uniform(80, 200), generator.uniform(60, 160)
    lines.append(f"tone 600 {low:.0f} 1600 {middle:.0f} 3000 {high:.0f}")
    lines.append(f"consonants {generator.integers(80, 125)} {generator.integers(80, 125)}")
    return "\n".join(lines) + "\n"


def _at_model_rate(speech: Speech, segments: list[Segment], warp: float) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """Samples at 16 kHz, (samples,) float64, sped up by ``warp``, and the segments in them."""
    ratio = SAMPLE_RATE_HZ / (speech.sample_rate_hz * warp)
    samples = soxr.resample(speech.samples, speech.sample_rate_hz * warp, SAMPLE_RATE_HZ, quality="HQ")
    bounds = [round(segment.start * ratio) for segment in segments] + [len(samples)]
    moved = tuple(
        Segment(start, end, segment.phone, segment.word)
        for start, end, segment in zip(bounds, bounds[1:], segments, strict=False)
    )
    return samples, moved


def _write(path: Path, samples: np.ndarray, segments: tuple[Segment, ...], text: str) -> None:
    """The four files of an utterance; ``path`` is their common name without a suffix."""
    audio = io.BytesIO()
    soundfile.write(audio, samples, SAMPLE_RATE_HZ, format="NIST", subtype="PCM_16", endian="LITTLE")
    path.with_suffix(".WAV").write_bytes(audio.getvalue())
    phones = "".join(f"{segment.start} {segment.end} {segment.phone}\n" for segment in segments)
    path.with_suffix(".PHN").write_text(phones, encoding="ascii")
    lines = []
    for index, word in enumerate(words_of(text)):
        spoken = [segment for segment in segments if segment.word == index]
        lines.append(f"{spoken[0].start} {spoken[-1].end} {word}\n")
    path.with_suffix(".WRD").write_text("".join(lines), encoding="ascii")
    path.with_suffix(".TXT").write_text(f"0 {len(samples)} {text}\n", encoding="ascii")
