"""Synthetic speakers: their voices, and their recordings with TIMIT's label files.

Each speaker has its own random generator. The result therefore does not depend on the order or number of worker processes.
Worker processes import this module, so it imports only what they need.
"""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from data_prep.espeak import SpeakingStyle, Speech, make_data_folder, synthesize
from data_prep.rooms import Channel, random_channel, simulate_recording
from data_prep.segments import Segment, label_phones
from data_prep.sentences import words_of

MAX_SPEAKERS = 26**3

NAME_STEP = 7919
"""Coprime to 26 ** 3, so that names are unique and successive names differ."""

NAME_END = "9"
"""No speaker of TIMIT has this last digit, so synthetic and TIMIT's speakers never share a name."""

DIALECTS = 8

RATE_RANGE_WPM = (140, 260)
"""Limits of the rate of an utterance in words per minute."""

SPEAKER_RATE_RANGE_WPM = (140, 220)
"""Mean rate of a speaker. An utterance is up to 10 % slower or faster."""

SILENCE_RANGE_S = (0.08, 0.3)
"""Silence before and after the speech."""


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker. ``warp`` is a factor on speed and frequency of espeak-ng's output, consonants included."""

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
    """Input of a worker for one speaker: (name, text) of each sentence and the folder of the recordings."""

    index: int
    seed: int
    folder: Path
    sentences: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recording:
    """One recorded utterance: name of its sentence, words, and phones with boundaries in samples at 16 kHz."""

    name: str
    words: str
    num_samples: int
    segments: tuple[Segment, ...]


def make_speaker(index: int, seed: int) -> Speaker:
    """Draw speaker ``index`` (from 0). Women and men alternate; the same arguments give the same speaker."""
    generator = _generator(index, seed, stream=0)
    sex = "fm"[index % 2]
    number = (index * NAME_STEP + 1) % MAX_SPEAKERS
    letters = "".join(chr(ord("A") + number // 26**position % 26) for position in range(3))
    return Speaker(
        name=f"{sex.upper()}{letters}{NAME_END}",
        sex=sex,
        dialect=f"DR{index // 2 % DIALECTS + 1}",
        variant=_draw_variant(sex, generator),
        rate_wpm=float(generator.uniform(*SPEAKER_RATE_RANGE_WPM)),
        pitch=float(generator.uniform(38, 62)),
        pitch_range=float(generator.uniform(25, 85)),
        warp=float(generator.uniform(0.94, 1.06)),
        channel=random_channel(generator),
    )


def record_speaker(task: SpeakerTask) -> list[Recording]:
    """Synthesize and record the sentences of one speaker; write .WAV, .PHN, .WRD and .TXT to the task's folder."""
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as scratch:  # a short path, because espeak-ng limits it
        return _record(task, Path(scratch))


def _record(task: SpeakerTask, scratch: Path) -> list[Recording]:
    speaker = make_speaker(task.index, task.seed)
    generator = _generator(task.index, task.seed, stream=1)
    task.folder.mkdir(parents=True, exist_ok=True)
    # One data folder per speaker: espeak-ng supports at most 350 voices, its own included.
    espeak_data = scratch / speaker.name
    make_data_folder(espeak_data, {speaker.name: speaker.variant})
    recordings = []
    for name, text in task.sentences:
        style = SpeakingStyle(
            variant=speaker.name,
            rate_wpm=int(np.clip(speaker.rate_wpm * generator.uniform(0.9, 1.1), *RATE_RANGE_WPM)),
            pitch=round(speaker.pitch + generator.uniform(-5, 5)),
            pitch_range=round(speaker.pitch_range + generator.uniform(-10, 10)),
        )
        speech = synthesize(espeak_data, text, style, int(generator.integers(1, 2**31)))
        before, after = np.round(generator.uniform(*SILENCE_RANGE_S, size=2) * speech.sample_rate_hz).astype(int)
        speech = speech.with_silence(int(before), int(after))
        samples, segments = warp_to_model_rate(speech, label_phones(speech), speaker.warp)
        samples = simulate_recording(samples, SAMPLE_RATE_HZ, speaker.channel, generator)
        recordings.append(Recording(name, " ".join(words_of(text)), len(samples), segments))
        _write_files(task.folder / name, samples, segments, text)
    return recordings


def _generator(index: int, seed: int, stream: int) -> np.random.Generator:
    """A generator independent of the other speakers' and of the sentences' (seeded with [seed, 0])."""
    return np.random.default_rng([seed, index + 1, stream])


def _draw_variant(sex: str, generator: np.random.Generator) -> str:
    """Draw a voice variant within the range of a sex."""
    low_hz, high_hz = (150, 230) if sex == "f" else (75, 130)
    tract = generator.uniform(1.06, 1.22) if sex == "f" else generator.uniform(0.9, 1.03)
    return voice_variant("female" if sex == "f" else "male", tract, generator.uniform(low_hz, high_hz), generator)


def voice_variant(gender: str, tract: float, base_hz: float, generator: np.random.Generator) -> str:
    """Draw an espeak-ng voice variant of a gender, with formant factor ``tract`` and lowest pitch ``base_hz``."""
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


def warp_to_model_rate(speech: Speech, segments: list[Segment], warp: float) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """Resample to 16 kHz and speed up by ``warp``: samples (samples,) float64 and the segments in them."""
    ratio = SAMPLE_RATE_HZ / (speech.sample_rate_hz * warp)
    samples = soxr.resample(speech.samples, speech.sample_rate_hz * warp, SAMPLE_RATE_HZ, quality="HQ")
    bounds = [round(segment.start * ratio) for segment in segments] + [len(samples)]
    warped = tuple(
        Segment(start, end, segment.phone, segment.word)
        for start, end, segment in zip(bounds, bounds[1:], segments, strict=False)
    )
    return samples, warped


def _write_files(path: Path, samples: np.ndarray, segments: tuple[Segment, ...], text: str) -> None:
    """Write the four files of an utterance; ``path`` is their common path without suffix."""
    audio = io.BytesIO()
    soundfile.write(audio, samples, SAMPLE_RATE_HZ, format="NIST", subtype="PCM_16", endian="LITTLE")
    path.with_suffix(".WAV").write_bytes(audio.getvalue())
    phones = "".join(f"{segment.start} {segment.end} {segment.phone}\n" for segment in segments)
    path.with_suffix(".PHN").write_text(phones, encoding="ascii")
    lines = []
    for index, word in enumerate(words_of(text)):
        word_segments = [segment for segment in segments if segment.word == index]
        lines.append(f"{word_segments[0].start} {word_segments[-1].end} {word}\n")
    path.with_suffix(".WRD").write_text("".join(lines), encoding="ascii")
    path.with_suffix(".TXT").write_text(f"0 {len(samples)} {text}\n", encoding="ascii")
