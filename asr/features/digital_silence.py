"""Digital silence: frames without any signal, which editing leaves behind, get the features of a quiet frame."""

import math

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.features.frames import INT16_SCALE, frame_samples

SILENT_RANGE = 1.0
"""One step of a file of 16 bits. A frame whose samples differ by less is digital silence, with an offset or without."""

QUIET_ONE_IN = 10
"""One in so many frames of an utterance is taken to be without speech."""


def frame_ranges(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """The largest sample of each frame minus the smallest, in 16-bit scale: (frames,)."""
    length, shift = frame_samples(config)
    if len(samples) < length:
        return torch.zeros(0)
    step = math.gcd(length, shift)  # frames overlap: what they share is looked at once
    signal = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    steps = signal[: len(samples) // step * step].view(-1, step)
    smallest, largest = (one.unfold(0, length // step, shift // step) for one in steps.aminmax(dim=1))
    return (largest.amax(1) - smallest.amin(1)) * INT16_SCALE


def replace_digital_silence(static: Tensor, ranges: Tensor) -> Tensor:
    """Features (frames, dim) with those of digital silence replaced, in place, by those of a quiet frame.

    Not the quietest one: digital silence may have cut into that. Of ten frames in order of their ranges it is the second.
    """
    silent = ranges < SILENT_RANGE
    sounding = (~silent).nonzero()[:, 0]
    if silent.any() and len(sounding) > 0:
        order = ranges[sounding].argsort(stable=True)
        static[silent] = static[sounding[order[len(order) // QUIET_ONE_IN]]].clone()
    return static
