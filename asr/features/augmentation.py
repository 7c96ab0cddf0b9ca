"""Augmentation of audio and features, for training only: speed perturbation, SpecAugment, frequency warping.

All randomness comes from the generator that the caller passes.
"""

import numpy as np
import torch
from torch import Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus.audio import resample
from asr.features.mel import mel_centres_hz


def perturb_speed(samples: np.ndarray, factor: float, sample_rate_hz: int) -> np.ndarray:
    """Play samples (samples,) ``factor`` times as fast; tempo and pitch change together.

    Source: Ko et al., "Audio augmentation for speech recognition", 2015.
    """
    return resample(samples, round(sample_rate_hz * factor), sample_rate_hz)


def spec_augment(features: Tensor, config: AugmentConfig, generator: np.random.Generator) -> Tensor:
    """Copy normalized features (frames, dim) and set random bands of frames and of bins to zero, their mean.

    SpecAugment without time warping (Park et al., 2019). The width of each mask is uniform between 0 and its maximum. The
    maximum over frames is at most ``time_mask_fraction`` of the utterance.
    """
    frames, dim = features.shape
    masked = features.clone()
    max_frames = min(config.time_mask_frames, int(config.time_mask_fraction * frames))
    for _ in range(config.time_masks):
        start, stop = _draw_mask(frames, max_frames, generator)
        masked[start:stop] = 0
    for _ in range(config.frequency_masks):
        start, stop = _draw_mask(dim, min(config.frequency_mask_bins, dim), generator)
        masked[:, start:stop] = 0
    return masked


def warp_frequencies(features: Tensor, factor: float, config: FeatureConfig) -> Tensor:
    """Warp log-mel features (frames, dim) as a vocal tract ``factor`` times shorter would: f Hz moves to factor * f.

    Values between bins are interpolated linearly; the outermost bins are repeated beyond the edges. Energy is unchanged.
    Source: Jaitly and Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition", 2013. Applied here to
    the output of the filterbank, where it is cheap.
    """
    centres_hz = mel_centres_hz(config)
    position = np.interp(centres_hz / factor, centres_hz, np.arange(config.bins))
    lower_bin = np.minimum(position.astype(np.int64), config.bins - 2)
    weight = torch.from_numpy((position - lower_bin).astype(np.float32))
    blocks = features.unflatten(1, (1 + config.delta_order, -1))
    energy, bins = blocks[..., : int(config.energy)], blocks[..., int(config.energy) :]
    warped = bins[..., lower_bin] * (1 - weight) + bins[..., lower_bin + 1] * weight
    return torch.cat([energy, warped], dim=2).flatten(1)


def augment_features(
    features: Tensor, augment: AugmentConfig, config: FeatureConfig, generator: np.random.Generator
) -> Tensor:
    """Draw one random view of normalized features (frames, dim): warped in frequency, then masked."""
    if augment.frequency_warp:
        factor = generator.uniform(1 - augment.frequency_warp, 1 + augment.frequency_warp)
        features = warp_frequencies(features, factor, config)
    return spec_augment(features, augment, generator)


def _draw_mask(size: int, max_width: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw the (start, stop) of a mask within ``size``."""
    width = int(generator.integers(0, max_width + 1))
    start = int(generator.integers(0, size - width + 1))
    return start, start + width
