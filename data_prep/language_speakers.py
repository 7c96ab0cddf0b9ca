"""Synthetic speakers of any language: their recordings, with phones and boundaries.

The voices are those of `data_prep.speakers`. Each speaker has a random generator of its own. The result therefore does not
depend on the order or number of worker processes, which import this module.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.audio import SAMPLE_RATE_HZ
from data_prep.entries import LeftOut
from data_prep.espeak import SpeakingStyle, make_data_folder, synthesize_transcribed
from data_prep.leaving_out import Unusable
from data_prep.rooms import simulate_recording
from data_prep.segments import Segment
from data_prep.segments_ipa import PAUSE, label_ipa
from data_prep.speakers import RATE_RANGE_WPM, SILENCE_RANGE_S, Speaker, make_speaker, warp_to_model_rate


@dataclass(frozen=True)
class LanguageTask:
    """Input of a worker for one speaker: sentences, the file of the language, and the folder of the recordings.

    ``tones`` is the code of the language if tones are written, else "".
    """

    index: int
    seed: int
    file: str
    tones: str
    folder: Path
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class LanguageRecording:
    """One recorded utterance: its number, its text, and its phones with boundaries in samples at 16 kHz, without pauses."""

    number: int
    text: str
    num_samples: int
    segments: tuple[Segment, ...]


def record_language(task: LanguageTask) -> list[LanguageRecording | LeftOut]:
    """Record the sentences of one speaker as NUMBER.flac, numbers from 1, in the task's folder."""
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as scratch:  # a short path, because espeak-ng limits it
        return _record_all(task, Path(scratch))


def _record_all(task: LanguageTask, scratch: Path) -> list[LanguageRecording | LeftOut]:
    speaker = make_speaker(task.index, task.seed)
    generator = np.random.default_rng([task.seed, task.index + 1, 1])
    task.folder.mkdir(parents=True, exist_ok=True)
    espeak_data = scratch / speaker.name
    make_data_folder(espeak_data, {speaker.name: speaker.variant})
    results: list[LanguageRecording | LeftOut] = []
    for number, text in enumerate(task.sentences, 1):
        try:
            samples, segments = _record(task, speaker, espeak_data, text, generator)
        except Unusable as unusable:
            results.append(LeftOut(f"{speaker.name}_{number}: {text}", unusable.reason))
            continue
        soundfile.write(task.folder / f"{number}.flac", samples, SAMPLE_RATE_HZ)
        spoken = tuple(segment for segment in segments if segment.phone != PAUSE)
        results.append(LanguageRecording(number, text, len(samples), spoken))
    return results


def _record(
    task: LanguageTask, speaker: Speaker, espeak_data: Path, text: str, generator: np.random.Generator
) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """Synthesize and record a sentence: int16 samples at 16 kHz, and the phones and pauses in them."""
    style = SpeakingStyle(
        variant=speaker.name,
        rate_wpm=int(np.clip(speaker.rate_wpm * generator.uniform(0.9, 1.1), *RATE_RANGE_WPM)),
        pitch=round(speaker.pitch + generator.uniform(-5, 5)),
        pitch_range=round(speaker.pitch_range + generator.uniform(-10, 10)),
        language=task.file,
    )
    speech, transcription = synthesize_transcribed(espeak_data, text, style, int(generator.integers(1, 2**31)))
    if not speech.samples.any():
        raise Unusable("sentence that espeak-ng does not speak")
    before, after = np.round(generator.uniform(*SILENCE_RANGE_S, size=2) * speech.sample_rate_hz).astype(int)
    speech = speech.with_silence(int(before), int(after))
    samples, segments = warp_to_model_rate(speech, label_ipa(speech, transcription, task.tones), speaker.warp)
    return simulate_recording(samples, SAMPLE_RATE_HZ, speaker.channel, generator), segments
