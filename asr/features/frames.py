"""Frames of a signal: their length and shift, their number, and their times.

A model may pad recordings (``padding_ms``): faint noise goes before and after each, because recordings that begin and end
with speech are unlike most of what it was trained on. The frames count from the start of the noise, times from the
start of the recording.
"""

import math
from functools import cache

import numpy as np

from asr.config import FeatureConfig

INT16_SCALE = 32768.0
"""Factor from samples in [-1, 1] to the 16-bit scale that Kaldi uses."""

FRAMES_AT_ONCE = 8192
"""Long signals are processed in pieces of this many frames (82 s), so that memory does not grow with the signal."""


PADDING_RMS = 1e-3
"""Level of the noise around recordings, -60 dB of full scale."""


def frame_samples(config: FeatureConfig) -> tuple[int, int]:
    """Length and shift of a frame in samples."""
    per_ms = config.sample_rate_hz / 1000
    return int(config.frame_length_ms * per_ms), int(config.frame_shift_ms * per_ms)


@cache
def padding(sample_rate_hz: int, padding_ms: float) -> tuple[np.ndarray, np.ndarray]:
    """The noise before and after a recording, each (samples,) float32. It is the same for every recording."""
    generator = np.random.default_rng(0)
    noise = PADDING_RMS * generator.standard_normal((2, round(padding_ms * sample_rate_hz / 1000)), np.float32)
    return noise[0], noise[1]


def pad(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """A recording (samples,) with the model's noise around it; unchanged if it is shorter than a frame."""
    if not config.padding_ms or len(samples) < frame_samples(config)[0]:
        return samples
    before, after = padding(config.sample_rate_hz, config.padding_ms)
    return np.concatenate([before, samples, after])


def frame_count(num_samples: int, config: FeatureConfig) -> int:
    """Number of frames of a signal of ``num_samples`` at ``config.sample_rate_hz``, padding included."""
    length, shift = frame_samples(config)
    padded = num_samples + 2 * round(config.padding_ms * config.sample_rate_hz / 1000)
    return 0 if num_samples < length else 1 + (padded - length) // shift


def frame_edge_s(frame: int, config: FeatureConfig) -> float:
    """Start in seconds of the interval that a frame represents: half way between its centre and the previous one.

    Frame 0 represents everything before its centre: its interval starts at 0. So do the intervals of the padding.
    """
    length, shift = frame_samples(config)
    start = (frame * shift + (length - shift) / 2) / config.sample_rate_hz - config.padding_ms / 1000
    return max(0.0, start) if frame > 0 else 0.0


def frames_within(start_s: float, end_s: float, config: FeatureConfig, frames: int) -> tuple[int, int]:
    """Frames (first, stop), out of ``frames``, whose centre is between two times in seconds. At least one frame."""
    length, shift = frame_samples(config)
    padded_s = (time_s + config.padding_ms / 1000 for time_s in (start_s, end_s))
    first, stop = (math.ceil((time_s * config.sample_rate_hz - length / 2) / shift) for time_s in padded_s)
    first = min(max(first, 0), frames - 1)
    return first, min(max(stop, first + 1), frames)
