"""Frames of a signal: how long they are, how many there are, and the time that each stands for."""

import math

from asr.config import FeatureConfig

INT16_SCALE = 32768.0
"""Samples in [-1, 1] are multiplied by this to get the 16-bit integers that Kaldi computes with."""

FRAMES_AT_ONCE = 8192
"""Long signals are processed in pieces of this many frames (82 s), so that memory does not grow with them."""


def frame_samples(config: FeatureConfig) -> tuple[int, int]:
    """Length and shift of a frame in samples."""
    per_ms = config.sample_rate_hz / 1000
    return int(config.frame_length_ms * per_ms), int(config.frame_shift_ms * per_ms)


def frame_count(num_samples: int, config: FeatureConfig) -> int:
    """Frames of a signal of so many samples at ``config.sample_rate_hz``."""
    length, shift = frame_samples(config)
    return 0 if num_samples < length else 1 + (num_samples - length) // shift


def frame_edge_s(frame: int, config: FeatureConfig) -> float:
    """Where a frame begins to stand for the signal: half way from the middle of the frame before to its own, in seconds.

    Frame 0 stands for what is before its middle as well.
    """
    length, shift = frame_samples(config)
    return max(0.0, frame * shift + (length - shift) / 2) / config.sample_rate_hz if frame > 0 else 0.0


def frames_within(start_s: float, end_s: float, config: FeatureConfig, frames: int) -> tuple[int, int]:
    """The frames, of so many, whose middle lies between two times, as (first, one past the last): one at least."""
    length, shift = frame_samples(config)
    first, stop = (math.ceil((time * config.sample_rate_hz - length / 2) / shift) for time in (start_s, end_s))
    first = min(max(first, 0), frames - 1)
    return first, min(max(stop, first + 1), frames)
