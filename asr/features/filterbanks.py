"""Front ends: log-mel filterbank, MFCC and librosa's mel spectrogram, with deltas. One utterance at a time, no padding.

The inputs of pretrained encoders are in `asr.features.encoder_inputs`.

Conventions are Kaldi's (``compute-fbank-feats`` without dither, only frames that fit into the signal): samples are scaled
to the 16-bit range; each frame has its mean removed, is pre-emphasized, Povey-windowed and zero-padded to a power of two;
the power spectrum passes triangular filters on HTK's mel scale; natural log.

One exception: a frame of digital silence becomes a copy of a quiet frame of the same utterance. The log of its zero energy
would distort the utterance's mean and variance (see `asr.features.digital_silence`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.features.digital_silence import frame_ranges, handle_digital_silence
from asr.features.encoder_inputs import ENCODER_INPUTS, waveform, whisper_mel
from asr.features.frames import FRAMES_AT_ONCE, INT16_SCALE, frame_count, frame_samples, pad, padding
from asr.features.mel import dct, fft_size_of, mel_filters, povey_window, upper_edge_hz

LOG_FLOOR = torch.finfo(torch.float32).eps
"""Kaldi's floor of energies, applied before the log."""

DELTA_WINDOW = 2
"""Frames on either side of the current one."""

SPARE_FRAMES = 2
"""Extra frames allocated because rounding may lengthen a resampled signal."""


def feature_dim(config: FeatureConfig) -> int:
    """Values per frame: (bins or cepstra, plus 1 for energy) times (1 + delta order); of a waveform, its samples."""
    if config.name == "waveform":
        return frame_samples(config)[0]
    static = (config.cepstra if config.name == "mfcc" else config.bins) + config.energy
    return static * (1 + config.delta_order)


def extract(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """Compute the features of one utterance, not normalized.

    Args:
        samples: (samples,) float32 in [-1, 1] at ``config.sample_rate_hz``.
        config: the front end and its sizes.

    Returns:
        (frames, feature_dim(config)) float32; 0 frames if the signal is shorter than a frame.
    """
    samples = pad(samples, config)
    static = FRONT_ENDS[config.name](samples, config)
    if config.name in ENCODER_INPUTS:
        return static
    return _append_deltas(handle_digital_silence(static, frame_ranges(samples, config), config), config)


def extract_blocks(blocks: Iterable[np.ndarray], num_samples: int, config: FeatureConfig) -> tuple[Tensor, int]:
    """Compute the features of `extract` from blocks of samples; returns them and the number of samples read.

    ``num_samples`` is the expected number of samples. Memory holds the features and one block.
    """
    length, shift = frame_samples(config)
    unpadded = replace(config, padding_ms=0.0)
    static = torch.empty(frame_count(num_samples, config) + SPARE_FRAMES, feature_dim(replace(config, delta_order=0)))
    ranges = torch.empty(len(static))
    pending, done, count = np.zeros(0, np.float32), 0, 0
    for block, is_audio in _padded_blocks(blocks, config):
        pending, count = np.concatenate([pending, block]), count + len(block) * is_audio
        frames = frame_count(len(pending), unpadded)
        if frames > 0:
            complete = pending[: (frames - 1) * shift + length]
            static[done : done + frames] = FRONT_ENDS[config.name](complete, config)
            ranges[done : done + frames] = frame_ranges(complete, config)
            pending, done = pending[frames * shift :], done + frames
    if config.name in ENCODER_INPUTS:
        return static[:done], count
    return _append_deltas(handle_digital_silence(static[:done], ranges[:done], config), config), count


def _padded_blocks(blocks: Iterable[np.ndarray], config: FeatureConfig) -> Iterator[tuple[np.ndarray, bool]]:
    """The blocks of a recording with the noise of `pad` around them, and whether each is of the recording."""
    before, after = padding(config.sample_rate_hz, config.padding_ms)
    first: list[np.ndarray] = []  # what is shorter than a frame has no noise
    count = 0
    for block in blocks:
        started, count = count >= frame_samples(config)[0], count + len(block)
        if started:
            yield block, True
            continue
        first.append(block)
        if count >= frame_samples(config)[0]:
            yield before, False
            yield np.concatenate(first), True
    if count < frame_samples(config)[0]:
        yield from ((block, True) for block in first)
    else:
        yield after, False


def _append_deltas(static: Tensor, config: FeatureConfig) -> Tensor:
    """Append deltas up to ``config.delta_order``: (frames, static dim) -> (frames, feature_dim(config))."""
    if not config.delta_order:
        return static
    orders = [static]
    for _ in range(config.delta_order):
        orders.append(deltas(orders[-1]))
    return torch.cat(orders, dim=1)


def fbank(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """Kaldi's log-mel filterbank: (frames, bins) float32. With ``energy``, the frame's log energy comes first."""
    frames = _split_into_frames(samples, config)
    if len(frames) == 0:
        return torch.zeros(0, config.bins + config.energy)
    return torch.cat([_log_mel(piece, config) for piece in frames.split(FRAMES_AT_ONCE)])


def mfcc(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """Kaldi's liftered mel-frequency cepstra: (frames, cepstra) float32. With ``energy``, log energy comes first."""
    log_mel = fbank(samples, config)
    energy, log_mel = log_mel[:, : int(config.energy)], log_mel[:, int(config.energy) :]
    return torch.cat([energy, log_mel @ dct(config.bins, config.cepstra)], dim=1)


def librosa_mel(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """Log of librosa's mel spectrogram (Hann window, Slaney's mel scale and norm): (frames, bins) float32."""
    import librosa

    length, shift = frame_samples(config)
    if len(samples) < length:
        return torch.zeros(0, config.bins + config.energy)
    mel = librosa.feature.melspectrogram(
        y=samples * INT16_SCALE,
        sr=config.sample_rate_hz,
        n_fft=length,
        hop_length=shift,
        center=False,
        n_mels=config.bins,
        fmin=config.low_hz,
        fmax=upper_edge_hz(config),
    )
    log_mel = torch.from_numpy(np.log(np.maximum(mel, LOG_FLOOR)).T.copy())
    if not config.energy:
        return log_mel
    return torch.cat([_log_energy(_split_into_frames(samples, config))[:, None], log_mel], dim=1)


FRONT_ENDS: dict[str, Callable[[np.ndarray, FeatureConfig], Tensor]] = {
    "fbank": fbank,
    "mfcc": mfcc,
    "librosa_mel": librosa_mel,
    "whisper_mel": lambda samples, config: whisper_mel(_split_into_frames(samples, config), config),
    "waveform": lambda samples, config: waveform(_split_into_frames(samples, config)),
}


def deltas(features: Tensor) -> Tensor:
    """Regress over two frames on either side, edge frames repeated (HTK's formula): (frames, dim) -> (frames, dim)."""
    if len(features) == 0:
        return features
    weights = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, dtype=features.dtype)
    first, last = features[:1].expand(DELTA_WINDOW, -1), features[-1:].expand(DELTA_WINDOW, -1)
    windows = torch.cat([first, features, last]).unfold(0, 2 * DELTA_WINDOW + 1, 1)  # (frames, dim, 5)
    return windows @ (weights / weights.square().sum())


def _log_mel(frames: Tensor, config: FeatureConfig) -> Tensor:
    """Samples in 16-bit scale, (frames, window) -> log-mel, (frames, [energy +] bins)."""
    length, _ = frame_samples(config)
    frames = frames - frames.mean(dim=1, keepdim=True)
    energy = [frames.square().sum(1).clamp_min(LOG_FLOOR).log()[:, None]] if config.energy else []
    # Pre-emphasis within the frame: its first sample is its own predecessor.
    previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - config.preemphasis * previous) * povey_window(length)
    spectrum = torch.fft.rfft(frames, n=fft_size_of(length))
    power = spectrum.real.square() + spectrum.imag.square()
    filters = mel_filters(config.sample_rate_hz, fft_size_of(length), config.bins, config.low_hz, upper_edge_hz(config))
    return torch.cat([*energy, (power @ filters).clamp_min(LOG_FLOOR).log()], dim=1)


def _log_energy(frames: Tensor) -> Tensor:
    """Log energy of centred frames: (frames, window) -> (frames,)."""
    centred = frames - frames.mean(dim=1, keepdim=True)
    return centred.square().sum(1).clamp_min(LOG_FLOOR).log()


def _split_into_frames(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    """View of overlapping frames of the signal in 16-bit scale: (frames, window)."""
    length, shift = frame_samples(config)
    signal = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)) * INT16_SCALE
    return signal.unfold(0, length, shift) if len(signal) >= length else signal.new_zeros(0, length)
