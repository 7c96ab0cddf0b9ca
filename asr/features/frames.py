"""Frames of a signal: their length and shift, their number, and their times."""

import math

from asr.config import FeatureConfig

INT16_SCALE = 32768.0
"""Factor from samples in [-1, 1] to the 16-bit scale that Kaldi uses."""

FRAMES_AT_ONCE = 8192
"""Long signals are processed in pieces of this many frames (82 s), so that memory does not grow with the signal."""


def frame_samples(config: FeatureConfig) -> tuple[int, int]:
    """Length and shift of a frame in samples."""
    per_ms = config.sample_rate_hz / 1000
    return int(config.frame_length_ms * per_ms), int(config.frame_shift_ms * per_ms)


def frame_count(num_samples: int, config: FeatureConfig) -> int:
    """Number of frames of a signal of ``num_samples`` at ``config.sample_rate_hz``."""
    length, shift = frame_samples(config)
    return 0 if num_samples < length else 1 + (num_samples - length) // shift


def frame_edge_s(frame: int, config: FeatureConfig) -> float:
    """Start in seconds of the interval that a frame represents: half way between its centre and the previous one.

    Frame 0 represents everything before its centre: its interval starts at 0.
    """
    length, shift = frame_samples(config)
    return max(0.0, frame * shift + (length - shift) / 2) / config.sample_rate_hz if frame > 0 else 0.0


def frames_within(start_s: float, end_s: float, config: FeatureConfig, frames: int) -> tuple[int, int]:
    """Frames (first, stop), out of ``frames``, whose centre is between two times in seconds. At least one frame."""
    length, shift = frame_samples(config)
    first, stop = (math.ceil((time * config.sample_rate_hz - length / 2) / shift) for time in (start_s, end_s))
    first = min(max(first, 0), frames - 1)
    return first, min(max(stop, first + 1), frames)
