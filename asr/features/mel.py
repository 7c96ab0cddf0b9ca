"""Constant tables of the front ends: analysis window, mel filters and cosine transform."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import InputError

CEPSTRAL_LIFTER = 22.0
"""Kaldi's default."""


def fft_size_of(length: int) -> int:
    """The smallest power of two that is at least ``length``."""
    return 1 << (length - 1).bit_length()


def mel_centres_hz(config: FeatureConfig) -> np.ndarray:
    """Centre frequencies in Hz of the mel bins of `fbank`, (bins,) float64."""
    lowest, highest = (1127.0 * math.log1p(hz / 700.0) for hz in (config.low_hz, upper_edge_hz(config)))
    return 700.0 * np.expm1(np.linspace(lowest, highest, config.bins + 2)[1:-1] / 1127.0)


def upper_edge_hz(config: FeatureConfig) -> float:
    """Upper edge of the last mel bin in Hz. ``high_hz`` of 0 or less counts down from the Nyquist frequency."""
    return config.high_hz if config.high_hz > 0 else config.sample_rate_hz / 2 + config.high_hz


@cache
def povey_window(length: int) -> Tensor:
    """Kaldi's window, a Hann window to the power of 0.85: (length,) float32."""
    return torch.hann_window(length, periodic=False, dtype=torch.float64).pow(0.85).float()


@cache
def mel_filters(sample_rate_hz: int, fft_size: int, bins: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangular filters, equally spaced and linear in mel: (fft_size / 2 + 1, bins) float32.

    HTK's mel scale: 1127 ln(1 + f / 700).

    Raises:
        InputError: the edges are out of order or beyond the Nyquist frequency, or a mel bin contains no FFT bin.
    """
    if not 0 <= low_hz < high_hz <= sample_rate_hz / 2:
        raise InputError(
            f"configuration: features from {low_hz:g} to {high_hz:g} Hz, expected within 0 to {sample_rate_hz / 2:g} Hz"
        )

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hz / 700.0)

    lowest, highest = mel(torch.tensor([low_hz, high_hz], dtype=torch.float64)).tolist()
    points = torch.linspace(lowest, highest, bins + 2, dtype=torch.float64)
    left, centre, right = points[:-2], points[1:-1], points[2:]
    spectrum = mel(torch.arange(fft_size // 2 + 1, dtype=torch.float64) * sample_rate_hz / fft_size)[:, None]
    rising, falling = (spectrum - left) / (centre - left), (right - spectrum) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0).float()
    filters[-1] = 0  # Kaldi ignores the Nyquist bin
    if (empty := int((filters.sum(0) == 0).sum())) > 0:
        raise InputError(f"configuration: {empty} of {bins} mel bins contain no FFT bin, expected fewer features.bins")
    return filters


@cache
def dct(bins: int, cepstra: int) -> Tensor:
    """Orthonormal DCT-II with Kaldi's lifter: (bins, cepstra) float32.

    Raises:
        InputError: more cepstra than bins.
    """
    if cepstra > bins:
        raise InputError(f"configuration: features.cepstra is {cepstra}, expected at most features.bins, {bins}")
    order = torch.arange(cepstra, dtype=torch.float64)
    position = torch.arange(bins, dtype=torch.float64)[:, None] + 0.5
    basis = torch.cos(math.pi / bins * position * order) * math.sqrt(2.0 / bins)
    basis[:, 0] = math.sqrt(1.0 / bins)
    lifter = 1 + CEPSTRAL_LIFTER / 2 * torch.sin(math.pi * order / CEPSTRAL_LIFTER)
    return (basis * lifter).float()
