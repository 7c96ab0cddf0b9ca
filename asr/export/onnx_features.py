"""`asr.features` as an ONNX graph: samples -> normalized features, each utterance of a batch as if it were alone.

Window and Fourier transform of a frame are one matrix, so that all frames of a batch are one strided convolution with its
rows. The signal is pre-emphasized before, which is the same but for a frame's first sample, where the window is zero: in
what is left loud low frequencies hide less of the quiet high ones, and rounding with them.
"""

import numpy as np
import torch

from asr.config import FeatureConfig
from asr.export.onnx_graph import Graph, single
from asr.features.digital_silence import QUIET_ONE_IN, SILENT_RANGE
from asr.features.filterbanks import DELTA_WINDOW, LOG_FLOOR
from asr.features.frames import INT16_SCALE, frame_samples
from asr.features.mel import dct, fft_size_of, mel_filters, povey_window, upper_edge_hz
from asr.features.normalization import STD_FLOOR, FeatureStatistics


def features(g: Graph, samples: str, num_samples: str, config: FeatureConfig) -> tuple[str, str]:
    """(batch, samples) float32 and their numbers (batch,) -> (batch, frames, dim), not normalized, and (batch,) lengths."""
    length, shift = frame_samples(config)
    whole = g("Add", g("Sub", num_samples, np.array([length])), np.array([shift]))
    lengths = g("Div", g("Max", whole, np.array([0])), np.array([shift]))
    power = _plain_power(g, samples, config) if config.name == "librosa_mel" else _kaldi_power(g, samples, config)
    log_mel = _log(g, g("MatMul", power, mel_matrix(config)))
    if config.name == "mfcc":
        log_mel = g("MatMul", log_mel, dct(config.bins, config.cepstra).numpy())
    static = log_mel
    if config.energy:
        parts = _frames(g, samples, INT16_SCALE * (np.eye(length) - 1 / length), shift)
        energy = _log(g, g("ReduceSumSquare", parts, axes=[2], keepdims=1))
        static = g("Concat", energy, log_mel, axis=2)
    static = _without_digital_silence(g, static, lengths, samples, config)
    orders = [static]
    for _ in range(config.delta_order):
        orders.append(_deltas(g, orders[-1], lengths))
    return (g("Concat", *orders, axis=2) if config.delta_order else static), lengths


def _without_digital_silence(g: Graph, static: str, lengths: str, samples: str, config: FeatureConfig) -> str:
    """Frames of digital silence become a quiet frame of the same utterance, as in `asr.features.filterbanks`."""
    length, shift = frame_samples(config)
    pools = {"kernel_shape": [length], "strides": [shift]}
    signal = g("Unsqueeze", samples, np.array([1]))
    ranges = g("Add", g("MaxPool", signal, **pools), g("MaxPool", g("Neg", signal), **pools))
    ranges = g("Squeeze", ranges, np.array([1]))  # (batch, frames)
    silent = g("Less", ranges, single(SILENT_RANGE / INT16_SCALE))
    sounding = g("And", g("Not", silent), g.inside(lengths, g.size(static, 1)))
    order = g.ascending(g("Where", sounding, ranges, single(np.inf)))
    count = g("ReduceSum", g("Cast", sounding, to=7), np.array([1]), keepdims=1)
    place = g("GatherElements", order, g("Div", count, np.array([QUIET_ONE_IN])), axis=1)  # (batch, 1)
    quiet = g("GatherND", static, place, batch_dims=1)  # (batch, dim)
    return g("Where", g("Unsqueeze", silent, np.array([2])), g("Unsqueeze", quiet, np.array([1])), static)


def normalized(g: Graph, values: str, lengths: str, config: FeatureConfig, known: FeatureStatistics | None) -> str:
    """Features as `normalize` leaves them, zero beyond each length. A speaker of whom nothing is known."""
    mask = g.inside(lengths, g.size(values, 1))
    if config.normalization == "global" and known is not None:
        values = g("Div", g("Sub", values, known.mean.numpy()), known.std.numpy())
    elif config.normalization in ("utterance", "speaker"):
        count = g("Cast", g("Max", lengths, np.array([1])), to=1)
        count = g("Unsqueeze", count, np.array([1, 2]))
        mean = g("Div", g("ReduceSum", g.masked(values, mask, 2), np.array([1]), keepdims=1), count)
        values = g("Sub", values, mean)
        squares = g("ReduceSum", g.masked(g("Mul", values, values), mask, 2), np.array([1]), keepdims=1)
        values = g("Div", values, g("Max", g("Sqrt", g("Div", squares, count)), single(STD_FLOOR)))
    return g.masked(values, mask, 2)


def mel_matrix(config: FeatureConfig) -> np.ndarray:
    """The filters, (frequencies, bins) float32."""
    length, _ = frame_samples(config)
    high_hz = upper_edge_hz(config)
    if config.name == "librosa_mel":
        from librosa.filters import mel

        rate, low_hz = config.sample_rate_hz, config.low_hz
        filters = mel(sr=rate, n_fft=length, n_mels=config.bins, fmin=low_hz, fmax=high_hz)
        return np.ascontiguousarray(filters.T)
    return mel_filters(config.sample_rate_hz, fft_size_of(length), config.bins, config.low_hz, high_hz).numpy()


def _frames(g: Graph, samples: str, matrix: np.ndarray, shift: int) -> str:
    """The matrix (outputs, window) times every frame of (batch, samples): (batch, frames, outputs)."""
    kernels = matrix.astype(np.float32)[:, None]
    outputs = g("Conv", g("Unsqueeze", samples, np.array([1])), kernels, strides=[shift])
    return g("Transpose", outputs, perm=[0, 2, 1])


def _kaldi_power(g: Graph, samples: str, config: FeatureConfig) -> str:
    """The power spectrum of every frame, (batch, frames, frequencies), as `asr.features.filterbanks.fbank` has it."""
    length, shift = frame_samples(config)
    before = g("Slice", samples, np.array([0]), np.array([-1]), np.array([1]))
    before = g("Concat", g("Slice", samples, np.array([0]), np.array([1]), np.array([1])), before, axis=1)
    emphasized = g("Sub", samples, g("Mul", before, single(config.preemphasis)))
    window = povey_window(length).double().numpy()
    spectra = _frames(g, emphasized, spectrum_matrix(window, fft_size_of(length)), shift)
    # What the mean of a frame, which the samples still have, adds to its spectrum.
    mean = _frames(g, samples, np.full((1, length), 1 / length), shift)
    constant = spectrum_matrix(window, fft_size_of(length)).sum(axis=1) * (1 - config.preemphasis)
    return _squared(g, g("Sub", spectra, g("Mul", mean, constant.astype(np.float32))))


def _plain_power(g: Graph, samples: str, config: FeatureConfig) -> str:
    """The same as librosa has it: a Hann window and nothing else."""
    length, shift = frame_samples(config)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return _squared(g, _frames(g, samples, spectrum_matrix(hann, length), shift))


def spectrum_matrix(window: np.ndarray, fft_size: int) -> np.ndarray:
    """What makes a frame's spectrum of its samples: (2 * frequencies, window), real parts first; float64."""
    spectrum = np.fft.rfft(np.diag(window), n=fft_size, axis=0)
    return INT16_SCALE * np.concatenate([spectrum.real, spectrum.imag])


def _squared(g: Graph, spectra: str) -> str:
    """(batch, frames, 2 * frequencies), real parts first -> (batch, frames, frequencies)."""
    real, imaginary = g.halves(spectra)
    return g("Add", g("Mul", real, real), g("Mul", imaginary, imaginary))


def _log(g: Graph, values: str) -> str:
    return g("Log", g("Max", values, single(LOG_FLOOR)))


def _deltas(g: Graph, values: str, lengths: str) -> str:
    """`asr.features.filterbanks.deltas`: each utterance's own first and last frames are repeated."""
    last = g("Unsqueeze", g("Max", g("Sub", lengths, np.array([1])), np.array([0])), np.array([1]))
    frames = g("Unsqueeze", g.range(g.size(values, 1)), np.array([0]))
    weights = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, dtype=torch.float32)
    terms = []
    for offset, weight in zip(range(-DELTA_WINDOW, DELTA_WINDOW + 1), weights / weights.square().sum(), strict=True):
        place = g("Min", g("Max", g("Add", frames, np.array([offset])), np.array([0])), last)
        spread = g("Expand", g("Unsqueeze", place, np.array([2])), g("Shape", values))
        terms.append(g("Mul", g("GatherElements", values, spread, axis=1), weight.numpy()))
    return g("Sum", *terms)
