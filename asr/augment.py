"""What training does to audio and features, and nothing else does. Randomness comes from the generator that is given."""

import numpy as np
from torch import Tensor

from asr.audio import resample
from asr.config import AugmentConfig


def perturb_speed(samples: np.ndarray, factor: float, sample_rate_hz: int) -> np.ndarray:
    """Samples (samples,) played ``factor`` times as fast, tempo and pitch alike (Ko et al., "Audio augmentation for
    speech recognition", 2015).
    """
    return resample(samples, round(sample_rate_hz * factor), sample_rate_hz)


def spec_augment(features: Tensor, config: AugmentConfig, generator: np.random.Generator) -> Tensor:
    """A copy of normalized features (frames, dim) with bands of frames and of bins set to zero, their mean.

    SpecAugment without time warping (Park et al., 2019). Each mask's width is drawn evenly from 0 to its maximum; the
    maximum over frames is also at most ``time_mask_fraction`` of the utterance.
    """
    frames, dim = features.shape
    masked = features.clone()
    longest = min(config.time_mask_frames, int(config.time_mask_fraction * frames))
    for _ in range(config.time_masks):
        start, stop = _mask(frames, longest, generator)
        masked[start:stop] = 0
    for _ in range(config.frequency_masks):
        start, stop = _mask(dim, min(config.frequency_mask_bins, dim), generator)
        masked[:, start:stop] = 0
    return masked


def _mask(size: int, longest: int, generator: np.random.Generator) -> tuple[int, int]:
    width = int(generator.integers(0, longest + 1))
    start = int(generator.integers(0, size - width + 1))
    return start, start + width
