"""What training does to audio and features, and nothing else does. Randomness comes from the generator that is given."""

import numpy as np
import torch
from torch import Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus.audio import resample
from asr.features.mel import mel_centres_hz


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


def warp_frequencies(features: Tensor, factor: float, config: FeatureConfig) -> Tensor:
    """Log-mel features (frames, dim) as of a vocal tract ``factor`` times as short: what lay at f Hz lies at factor * f.

    Values between bins are interpolated; beyond the outermost bins the outermost is repeated. Energy stays.
    Source: Jaitly and Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition", 2013, here on the
    filterbank's output, where it costs next to nothing.
    """
    centres_hz = mel_centres_hz(config)
    place = np.interp(centres_hz / factor, centres_hz, np.arange(config.bins))
    below = np.minimum(place.astype(np.int64), config.bins - 2)
    part = torch.from_numpy((place - below).astype(np.float32))
    blocks = features.unflatten(1, (1 + config.delta_order, -1))
    energy, bins = blocks[..., : int(config.energy)], blocks[..., int(config.energy) :]
    warped = bins[..., below] * (1 - part) + bins[..., below + 1] * part
    return torch.cat([energy, warped], dim=2).flatten(1)


def augment_features(
    features: Tensor, augment: AugmentConfig, config: FeatureConfig, generator: np.random.Generator
) -> Tensor:
    """One random view of an utterance's normalized features, (frames, dim): warped in frequency, then masked."""
    if augment.frequency_warp:
        factor = generator.uniform(1 - augment.frequency_warp, 1 + augment.frequency_warp)
        features = warp_frequencies(features, factor, config)
    return spec_augment(features, augment, generator)


def _mask(size: int, longest: int, generator: np.random.Generator) -> tuple[int, int]:
    width = int(generator.integers(0, longest + 1))
    start = int(generator.integers(0, size - width + 1))
    return start, start + width
