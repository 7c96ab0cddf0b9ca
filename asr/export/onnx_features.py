"""`asr.features` as an ONNX graph: samples -> normalized features, independent of the other utterances in the batch.

The window and the Fourier transform of a frame are one matrix, so that one strided convolution with its rows computes all
frames of a batch. Pre-emphasis comes before it. That differs only in a frame's first sample, where the window is zero, and
reduces rounding errors: loud low frequencies mask quiet high ones less.
The inputs of pretrained encoders (`asr.features.encoder_inputs`) are computed in the same way.
"""

import numpy as np
import torch

from asr.config import FeatureConfig
from asr.export.onnx_graph import Graph, single
from asr.features.digital_silence import QUIET_FRAME_DIVISOR, SILENT_RANGE
from asr.features.encoder_inputs import POWER_FLOOR, RANGE, VARIANCE_FLOOR, slaney_filters
from asr.features.filterbanks import DELTA_WINDOW, LOG_FLOOR
from asr.features.frames import INT16_SCALE, frame_samples, padding
from asr.features.mel import dct, fft_size_of, mel_filters, povey_window, upper_edge_hz
from asr.features.normalization import STD_FLOOR, FeatureStatistics


def add_features(g: Graph, samples: str, num_samples: str, config: FeatureConfig) -> tuple[str, str]:
    """(batch, samples) float32 and their counts (batch,) -> (batch, frames, dim), not normalized, and (batch,) lengths."""
    length, shift = frame_samples(config)
    if config.padding_ms:
        samples, num_samples = _pad(g, samples, num_samples, config)
    covered = g("Add", g("Sub", num_samples, np.array([length])), np.array([shift]))
    lengths = g("Div", g("Max", covered, np.array([0])), np.array([shift]))
    if config.name == "waveform":
        return _multiply_frames(g, samples, np.eye(length), shift), lengths
    if config.name == "whisper_mel":
        mel = g("MatMul", _hann_power(g, samples, config), mel_matrix(config))
        return g("Mul", _log(g, mel, POWER_FLOOR), single(1 / np.log(10))), lengths
    power = _hann_power(g, samples, config) if config.name == "librosa_mel" else _kaldi_power(g, samples, config)
    log_mel = _log(g, g("MatMul", power, mel_matrix(config)))
    if config.name == "mfcc":
        log_mel = g("MatMul", log_mel, dct(config.bins, config.cepstra).numpy())
    static = log_mel
    if config.energy:
        centred = _multiply_frames(g, samples, INT16_SCALE * (np.eye(length) - 1 / length), shift)
        energy = _log(g, g("ReduceSumSquare", centred, axes=[2], keepdims=1))
        static = g("Concat", energy, log_mel, axis=2)
    static = _replace_digital_silence(g, static, lengths, samples, config)
    orders = [static]
    for _ in range(config.delta_order):
        orders.append(_deltas(g, orders[-1], lengths))
    return (g("Concat", *orders, axis=2) if config.delta_order else static), lengths


def _pad(g: Graph, samples: str, num_samples: str, config: FeatureConfig) -> tuple[str, str]:
    """The noise of `asr.features.frames.pad` around each utterance: (batch, samples) and counts, both larger."""
    before, after = padding(config.sample_rate_hz, config.padding_ms)
    size = len(before)
    padded = g("Pad", samples, np.array([0, size, 0, size]))
    here = g("Unsqueeze", g.range(g.size(padded, 1)), np.array([0]))
    beyond = g("Sub", here, g("Unsqueeze", g("Add", num_samples, np.array([size])), np.array([1])))  # (batch, samples)
    ends = g("Gather", after, g("Min", g("Max", beyond, np.array([0])), np.array([size - 1])))
    starts = g("Gather", before, g("Min", here, np.array([size - 1])))
    padded = g("Where", g("Less", here, np.array([size])), starts, padded)
    padded = g("Where", g("Less", beyond, np.array([0])), padded, ends)
    long_enough = g("Cast", g("GreaterOrEqual", num_samples, np.array([frame_samples(config)[0]])), to=7)
    return padded, g("Add", num_samples, g("Mul", long_enough, np.array([2 * size])))


def _replace_digital_silence(g: Graph, static: str, lengths: str, samples: str, config: FeatureConfig) -> str:
    """Replace frames of digital silence by a quiet frame of the same utterance, as `asr.features.digital_silence` does."""
    length, shift = frame_samples(config)
    pools = {"kernel_shape": [length], "strides": [shift]}
    signal = g("Unsqueeze", samples, np.array([1]))
    ranges = g("Add", g("MaxPool", signal, **pools), g("MaxPool", g("Neg", signal), **pools))
    ranges = g("Squeeze", ranges, np.array([1]))  # (batch, frames)
    silent = g("Less", ranges, single(SILENT_RANGE / INT16_SCALE))
    sounding = g("And", g("Not", silent), g.length_mask(lengths, g.size(static, 1)))
    order = g.argsort(g("Where", sounding, ranges, single(np.inf)))
    count = g("ReduceSum", g("Cast", sounding, to=7), np.array([1]), keepdims=1)
    index = g("GatherElements", order, g("Div", count, np.array([QUIET_FRAME_DIVISOR])), axis=1)  # (batch, 1)
    quiet = g("GatherND", static, index, batch_dims=1)  # (batch, dim)
    return g("Where", g("Unsqueeze", silent, np.array([2])), g("Unsqueeze", quiet, np.array([1])), static)


def add_normalization(
    g: Graph, values: str, lengths: str, config: FeatureConfig, statistics: FeatureStatistics | None
) -> str:
    """Normalize features as `asr.features.normalization.normalize` does for an unknown speaker. Zero beyond each length."""
    mask = g.length_mask(lengths, g.size(values, 1))
    if config.normalization == "global" and statistics is not None:
        values = g("Div", g("Sub", values, statistics.mean.numpy()), statistics.std.numpy())
    elif config.normalization in ("utterance", "speaker"):
        count = g("Cast", g("Max", lengths, np.array([1])), to=1)
        count = g("Unsqueeze", count, np.array([1, 2]))
        mean = g("Div", g("ReduceSum", g.apply_mask(values, mask, 2), np.array([1]), keepdims=1), count)
        values = g("Sub", values, mean)
        squares = g("ReduceSum", g.apply_mask(g("Mul", values, values), mask, 2), np.array([1]), keepdims=1)
        values = g("Div", values, g("Max", g("Sqrt", g("Div", squares, count)), single(STD_FLOOR)))
    elif config.normalization == "whisper":
        inside = g("Where", g("Unsqueeze", mask, np.array([2])), values, single(-np.inf))
        lowest = g("Sub", g("ReduceMax", inside, axes=[1, 2], keepdims=1), single(RANGE))
        values = g("Div", g("Add", g("Max", values, lowest), single(4.0)), single(4.0))
    elif config.normalization == "waveform":
        values = _normalize_waveform(g, values, lengths, config)
    return g.apply_mask(values, mask, 2)


def _normalize_waveform(g: Graph, frames: str, lengths: str, config: FeatureConfig) -> str:
    """`asr.features.encoder_inputs.normalize_waveform`: zero mean and unit variance of the samples of each utterance."""
    window, shift = frame_samples(config)
    once = sample_mask(g, lengths, g.size(frames, 1), window, shift)
    count = g("ReduceSum", g("Cast", once, to=1), np.array([1, 2]), keepdims=1)

    def mean(values: str) -> str:
        return g("Div", g("ReduceSum", g("Where", once, values, single(0.0)), np.array([1, 2]), keepdims=1), count)

    centred = g("Sub", frames, mean(frames))
    variance = mean(g("Mul", centred, centred))
    return g("Div", centred, g("Sqrt", g("Add", variance, single(VARIANCE_FLOOR))))


def sample_mask(g: Graph, lengths: str, frames: str, window: int, shift: int) -> str:
    """(batch, frames, window) bool, true for each sample of an utterance once: in the last frame that has it.

    In a frame these are the samples that the next one lacks, in an utterance's last frame all.
    """
    before_last, inside = (
        g("Unsqueeze", g.length_mask(stops, frames), np.array([2]))
        for stops in (g("Sub", lengths, np.array([1])), lengths)
    )
    return g("And", inside, g("Or", g("Not", before_last), (np.arange(window) < shift)[None, None]))


def mel_matrix(config: FeatureConfig) -> np.ndarray:
    """The mel filters, (frequencies, bins) float32."""
    length, _ = frame_samples(config)
    high_hz = upper_edge_hz(config)
    if config.name == "whisper_mel":  # takes samples in [-1, 1]
        return slaney_filters(config.sample_rate_hz, length, config.bins).numpy() / np.float32(INT16_SCALE**2)
    if config.name == "librosa_mel":
        from librosa.filters import mel

        rate, low_hz = config.sample_rate_hz, config.low_hz
        filters = mel(sr=rate, n_fft=length, n_mels=config.bins, fmin=low_hz, fmax=high_hz)
        return np.ascontiguousarray(filters.T)
    return mel_filters(config.sample_rate_hz, fft_size_of(length), config.bins, config.low_hz, high_hz).numpy()


def _multiply_frames(g: Graph, samples: str, matrix: np.ndarray, shift: int) -> str:
    """Multiply every frame of (batch, samples) by a matrix (outputs, window): (batch, frames, outputs)."""
    kernels = matrix.astype(np.float32)[:, None]
    outputs = g("Conv", g("Unsqueeze", samples, np.array([1])), kernels, strides=[shift])
    return g("Transpose", outputs, perm=[0, 2, 1])


def _kaldi_power(g: Graph, samples: str, config: FeatureConfig) -> str:
    """The power spectrum of every frame, (batch, frames, frequencies), as in `asr.features.filterbanks.fbank`."""
    length, shift = frame_samples(config)
    previous = g("Slice", samples, np.array([0]), np.array([-1]), np.array([1]))
    previous = g("Concat", g("Slice", samples, np.array([0]), np.array([1]), np.array([1])), previous, axis=1)
    emphasized = g("Sub", samples, g("Mul", previous, single(config.preemphasis)))
    window = povey_window(length).double().numpy()
    spectra = _multiply_frames(g, emphasized, spectrum_matrix(window, fft_size_of(length)), shift)
    # Kaldi subtracts the mean of each frame. Here its contribution to the spectrum is subtracted instead.
    mean = _multiply_frames(g, samples, np.full((1, length), 1 / length), shift)
    constant = spectrum_matrix(window, fft_size_of(length)).sum(axis=1) * (1 - config.preemphasis)
    return _power(g, g("Sub", spectra, g("Mul", mean, constant.astype(np.float32))))


def _hann_power(g: Graph, samples: str, config: FeatureConfig) -> str:
    """The power spectrum of every frame as in librosa and Whisper: a Hann window, no pre-emphasis, the mean kept."""
    length, shift = frame_samples(config)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return _power(g, _multiply_frames(g, samples, spectrum_matrix(hann, length), shift))


def spectrum_matrix(window: np.ndarray, fft_size: int) -> np.ndarray:
    """The matrix that maps samples to a spectrum: (2 * frequencies, window) float64, real parts first."""
    spectrum = np.fft.rfft(np.diag(window), n=fft_size, axis=0)
    return INT16_SCALE * np.concatenate([spectrum.real, spectrum.imag])


def _power(g: Graph, spectra: str) -> str:
    """(batch, frames, 2 * frequencies), real parts first -> (batch, frames, frequencies)."""
    real, imaginary = g.split_in_half(spectra)
    return g("Add", g("Mul", real, real), g("Mul", imaginary, imaginary))


def _log(g: Graph, values: str, floor: float = LOG_FLOOR) -> str:
    return g("Log", g("Max", values, single(floor)))


def _deltas(g: Graph, values: str, lengths: str) -> str:
    """`asr.features.filterbanks.deltas`, repeating the first and last frame of each utterance."""
    last = g("Unsqueeze", g("Max", g("Sub", lengths, np.array([1])), np.array([0])), np.array([1]))
    frames = g("Unsqueeze", g.range(g.size(values, 1)), np.array([0]))
    weights = torch.arange(-DELTA_WINDOW, DELTA_WINDOW + 1, dtype=torch.float32)
    terms = []
    for offset, weight in zip(range(-DELTA_WINDOW, DELTA_WINDOW + 1), weights / weights.square().sum(), strict=True):
        index = g("Min", g("Max", g("Add", frames, np.array([offset])), np.array([0])), last)
        indices = g("Expand", g("Unsqueeze", index, np.array([2])), g("Shape", values))
        terms.append(g("Mul", g("GatherElements", values, indices, axis=1), weight.numpy()))
    return g("Sum", *terms)
