"""Replace the features of digital silence by those of a quiet frame of the same utterance.

Digital silence (frames of constant samples) comes from editing, never from a microphone.
"""

import math

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.features.frames import INT16_SCALE, frame_samples

SILENT_RANGE = 1.0
"""One step of 16-bit audio. A frame whose samples span less is digital silence, with or without a constant offset."""

QUIET_FRAME_DIVISOR = 10
"""The quiet frame is number n // 10 of the n frames with signal, sorted by range: assumed to have no speech."""


def frame_ranges(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """Largest minus smallest sample of each frame, in 16-bit scale: (frames,) float32."""
    length, shift = frame_samples(config)
    if len(samples) < length:
        return torch.zeros(0)
    step = math.gcd(length, shift)  # frames overlap: reduce each step once, then combine steps
    signal = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    steps = signal[: len(samples) // step * step].view(-1, step)
    smallest, largest = (extremes.unfold(0, length // step, shift // step) for extremes in steps.aminmax(dim=1))
    return (largest.amax(1) - smallest.amin(1)) * INT16_SCALE


def handle_digital_silence(static: Tensor, ranges: Tensor, config: FeatureConfig) -> Tensor:
    """Replace the features (frames, dim) of digital silence, in place; ``ranges`` (frames,) come from `frame_ranges`.

    For running normalization, which cannot know the later frames, they become NaN: it gives them a value of their own.
    """
    if config.normalization == "running":
        static[ranges < SILENT_RANGE] = math.nan
        return static
    return replace_digital_silence(static, ranges)


def replace_digital_silence(static: Tensor, ranges: Tensor) -> Tensor:
    """Replace the features (frames, dim) of digital silence, in place, by those of a quiet frame.

    ``ranges`` (frames,) come from `frame_ranges`. The quiet frame is not the quietest one, which may contain some digital
    silence itself: of ten frames sorted by range it is the second.
    """
    silent = ranges < SILENT_RANGE
    sounding = (~silent).nonzero()[:, 0]
    if silent.any() and len(sounding) > 0:
        order = ranges[sounding].argsort(stable=True)
        static[silent] = static[sounding[order[len(order) // QUIET_FRAME_DIVISOR]]].clone()
    return static
