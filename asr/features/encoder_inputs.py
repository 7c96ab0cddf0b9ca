"""The inputs of pretrained encoders: Whisper's log-mel spectrogram, and the waveform itself.

An encoder needs the input that it was trained on, so nothing here can be set except the number of mel bins.
Sources: Radford et al., "Robust speech recognition via large-scale weak supervision", 2023 (Whisper); Baevski et al.,
"wav2vec 2.0", 2020.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.features.frames import FRAMES_AT_ONCE, INT16_SCALE

ENCODER_INPUTS = ("whisper_mel", "waveform")
"""Names of front ends whose features go into an encoder; `asr.features.filterbanks.extract` changes nothing in them."""

POWER_FLOOR = 1e-10
"""Whisper's floor of mel energies, applied before the log."""
RANGE = 8.0
"""Whisper's dynamic range, in log10: values further below an utterance's largest are raised."""
VARIANCE_FLOOR = 1e-7
"""Added to the variance of a waveform before dividing by its root, as wav2vec 2.0 does."""


def whisper_mel(frames: Tensor, config: FeatureConfig) -> Tensor:
    """Whisper's log-mel spectrogram, before `normalize_whisper`: (frames, window) in 16-bit scale -> (frames, bins).

    Its frames are those that fit into the signal; Whisper itself also has one around the first sample.
    """
    if len(frames) == 0:
        return torch.zeros(0, config.bins)
    window = torch.hann_window(frames.shape[1])
    filters = slaney_filters(config.sample_rate_hz, frames.shape[1], config.bins)
    pieces = []
    for piece in frames.split(FRAMES_AT_ONCE):
        spectrum = torch.fft.rfft(piece / INT16_SCALE * window)
        power = spectrum.real.square() + spectrum.imag.square()
        pieces.append((power @ filters).clamp_min(POWER_FLOOR).log10())
    return torch.cat(pieces)


def normalize_whisper(features: Tensor) -> Tensor:
    """Limit the range of log-mel features (frames, bins) below their largest value, and scale them as Whisper does."""
    return (torch.maximum(features, features.max() - RANGE) + 4) / 4


def waveform(frames: Tensor) -> Tensor:
    """Samples in [-1, 1] as overlapping frames: (frames, window) in 16-bit scale -> the same shape.

    An encoder's convolutions have the window and shift of these frames, so that they see exactly the samples of one frame
    for each of their outputs. `join_frames` restores the signal.
    """
    return frames / INT16_SCALE


def join_frames(frames: Tensor, shift: int) -> Tensor:
    """The signal whose overlapping frames these are: (frames, window) -> (samples,)."""
    return torch.cat([frames[:-1, :shift].flatten(), frames[-1]])


def normalize_waveform(frames: Tensor, shift: int) -> Tensor:
    """Scale the signal in overlapping frames (frames, window) to zero mean and unit variance."""
    signal = join_frames(frames, shift).double()
    scale = (signal.var(unbiased=False) + VARIANCE_FLOOR).rsqrt()
    return ((frames - signal.mean()) * scale).float()


@cache
def slaney_filters(sample_rate_hz: int, fft_size: int, bins: int) -> Tensor:
    """Triangular filters on Slaney's mel scale, each of unit area: (fft_size / 2 + 1, bins) float32.

    The scale is linear below 1000 Hz (200 / 3 Hz a mel) and logarithmic above (27 mels for a factor of 6.4).
    Source: Slaney, "Auditory toolbox", 1998; what librosa's ``filters.mel`` computes.
    """
    step_hz, corner_hz, log_step = 200 / 3, 1000.0, np.log(6.4) / 27

    def to_hz(mel: np.ndarray) -> np.ndarray:
        corner = corner_hz / step_hz
        return np.where(mel < corner, mel * step_hz, corner_hz * np.exp(log_step * (mel - corner)))

    top = corner_hz / step_hz + np.log(sample_rate_hz / 2 / corner_hz) / log_step
    edges_hz = to_hz(np.linspace(0, top, bins + 2))
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    hz = np.linspace(0, sample_rate_hz / 2, fft_size // 2 + 1)[:, None]
    triangles = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre)).clip(min=0)
    return torch.from_numpy((triangles * 2 / (right - left)).astype(np.float32))
