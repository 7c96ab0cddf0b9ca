"""From an audio file to phones with times and confidences.

    recognizer = asr.load("runs/first/model")
    for phone in recognizer.transcribe("hello.wav").phones:
        print(phone.symbol, phone.start_s, phone.end_s, phone.confidence)

A recording passes through these steps, in this order on this page:

    features        audio -> normalized features (frames, dim) and the duration
    recognize       features -> log-probabilities (output frames, symbols), and with these:
    _tokens         log-probabilities -> symbol ids
    _spans          the output frames of each token
    _confidences    the probability that each token is correct
    _times_s        start and end of each phone in seconds
    _transcript     symbols, times and confidences -> `Transcript`
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.corpus.audio import MAX_AMPLITUDE, probe_audio, read_blocks, resample
from asr.decoding.best_path import Decoder, align_tokens, best_path, best_path_spans
from asr.errors import InputError
from asr.features.filterbanks import extract, extract_blocks, feature_dim
from asr.features.frames import frame_edge_s, frames_within
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.forced_alignment import FrameClassifier, align_phones, load_aligner, non_silence_positions
from asr.inference.transcript_formats import Phone, Transcript
from asr.inference.windows import compute_log_probs
from asr.nn.ctc import required_frames
from asr.scoring.calibration import Calibration, evidence, load_calibration

Audio = str | Path | np.ndarray
Span = tuple[int, int]
"""The output frames of a token, as (first, one past the last)."""

MAX_REACH_S = 0.1
"""Without an aligner, a phone extends half way to its neighbours' peaks, but at most this far from its own peak."""

EMPTY = torch.empty(0)
"""Takes the place of log-probabilities that are no longer needed."""


def load(model: str | Path, device: str = "cpu", precision: str = "auto", decoder: str = "best_path") -> "Recognizer":
    """Load a recognizer from a model folder. ``decoder`` is best_path or beam.

    Raises:
        InputError: not a bundle, or its parts do not fit together.
    """
    path = Path(model)
    bundle = load_bundle(path, device, precision)
    decode: Decoder = best_path
    if decoder == "beam":
        from asr.decoding.beam_search import load_decoder

        decode = load_decoder(path, bundle.inventory)
    aligner = load_aligner(path, feature_dim(bundle.features), len(bundle.inventory.symbols))
    return Recognizer(bundle, load_calibration(path) or Calibration(), aligner, decode)


@dataclass(frozen=True)
class Recognizer:
    """A trained model with its decoder, the calibration of its confidences and its aligner.

    It never changes, so threads may share one.
    """

    bundle: Bundle
    calibration: Calibration = Calibration()
    aligner: FrameClassifier | None = None
    decode: Decoder = best_path

    def without_padding(self) -> "Recognizer":
        """The same recognizer without noise around its input, for parts of a recording."""
        features = replace(self.bundle.features, padding_ms=0.0)
        return replace(self, bundle=replace(self.bundle, features=features))

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the model's input; audio at other rates is resampled."""
        return self.bundle.features.sample_rate_hz

    @property
    def phones(self) -> tuple[str, ...]:
        """The model's phones, in the order of its outputs after the blank."""
        return self.bundle.inventory.symbols[1:]

    def transcribe(self, audio: Audio, sample_rate_hz: int | None = None) -> Transcript:
        """Recognize the phones of a file or an array.

        Raises:
            InputError: the file cannot be used, or the array is not as `samples` expects it.
        """
        return self.transcribe_batch([audio], sample_rate_hz)[0]

    def transcribe_batch(self, audios: Sequence[Audio], sample_rate_hz: int | None = None) -> list[Transcript]:
        """Recognize the phones of several files or arrays, faster than one after another.

        Raises:
            InputError: a file cannot be used, or an array is not as `samples` expects it.
        """
        inputs = [self.features(audio, sample_rate_hz) for audio in audios]
        return self.recognize([features for features, _ in inputs], [duration_s for _, duration_s in inputs])

    def align(self, audio: Audio, phones: Sequence[str], sample_rate_hz: int | None = None) -> Transcript:
        """Find the times of known phones in a recording: the same steps, with these phones instead of decoded ones.

        Raises:
            InputError: as `transcribe`; or an unknown phone, or more phones than the recording has frames for.
        """
        name = "samples" if isinstance(audio, np.ndarray) else str(audio)
        features, duration_s = self.features(audio, sample_rate_hz)
        (log_probs,) = compute_log_probs(self.bundle, [features])
        tokens = self.bundle.inventory.encode(phones, name)
        needed = int(required_frames(torch.tensor([tokens or [0]]), torch.tensor([len(tokens)])))
        if needed > len(log_probs):
            has = f"the recording has {len(log_probs)}"
            raise InputError(f"{name}: {len(tokens)} phones need {needed} output frames, {has}, expected fewer phones")
        return self.place(features, log_probs, tokens, align_tokens(log_probs, tokens), duration_s)

    def place(
        self, features: Tensor, log_probs: Tensor, tokens: Sequence[int], spans: Sequence[Span], duration_s: float
    ) -> Transcript:
        """Find the times of phones whose output frames are known.

        ``features`` are normalized, (frames, dim); ``log_probs`` are (output frames, symbols), natural log.
        """
        confidences = self._confidences(log_probs, tokens, spans)
        times_s = self._times_s(features, tokens, spans, duration_s)
        return self._transcript(tokens, times_s, confidences, duration_s)

    def log_probs(self, audio: Audio, sample_rate_hz: int | None = None) -> np.ndarray:
        """Compute the natural-log probabilities (output frames, symbols) float32: the blank, then `phones`.

        Raises:
            InputError: the file cannot be used, or the array is not as `samples` expects it.
        """
        features, _ = self.features(audio, sample_rate_hz)
        return compute_log_probs(self.bundle, [features])[0].float().cpu().numpy()

    def is_unusual(self, transcript: Transcript) -> bool:
        """Whether a recording is unlike the speech that the model knows, so that many phones are probably wrong."""
        return self.calibration.is_unusual([phone.confidence for phone in transcript.phones])

    # The steps.

    def features(self, audio: Audio, sample_rate_hz: int | None = None) -> tuple[Tensor, float]:
        """Compute the normalized features (frames, dim) of a file or an array, and its duration in seconds.

        A file is read in blocks, so that memory holds only its features.

        Raises:
            InputError: the file cannot be used, or the array is not as `samples` expects it.
        """
        config = self.bundle.features
        if isinstance(audio, np.ndarray):
            samples = self.samples(audio, sample_rate_hz)
            raw, num_samples = extract(samples, config), len(samples)
        else:
            path, rate_hz = Path(audio), self.sample_rate_hz
            expected_samples = round(probe_audio(path).duration_s * rate_hz)
            raw, num_samples = extract_blocks(read_blocks(path, rate_hz), expected_samples, config)
        normalized = normalize(raw, config, "", self.bundle.statistics, in_place=True)
        return normalized, num_samples / self.sample_rate_hz

    def samples(self, audio: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """Average the channels of an array (samples,) or (samples, channels) and resample it to the model's rate.

        Returns (samples,) float32.

        Raises:
            InputError: no rate, a wrong shape or type, or a sample that is not finite.
        """
        if not sample_rate_hz or sample_rate_hz < 1:
            raise InputError(f"sample_rate_hz is {sample_rate_hz}, expected the rate of the samples")
        if audio.ndim not in (1, 2) or audio.size == 0 or not np.issubdtype(audio.dtype, np.floating):
            expected = "floating point (samples,) or (samples, channels)"
            raise InputError(f"samples are {audio.dtype} {audio.shape}, expected {expected}")
        mono = (audio if audio.ndim == 1 else audio.mean(axis=1)).astype(np.float32)
        if not (np.abs(mono) <= MAX_AMPLITUDE).all():
            raise InputError("a sample is not finite or out of range, expected numbers around 1")
        return resample(mono, sample_rate_hz, self.sample_rate_hz)

    def recognize(self, features: Sequence[Tensor], durations_s: Sequence[float]) -> list[Transcript]:
        """Recognize the phones of recordings from their normalized features (frames, dim)."""
        all_log_probs = compute_log_probs(self.bundle, features)
        transcripts = []
        for index, (utterance, duration_s) in enumerate(zip(features, durations_s, strict=True)):
            log_probs, all_log_probs[index] = all_log_probs[index], EMPTY
            tokens = self._tokens(log_probs)
            spans = self._spans(log_probs, tokens)
            confidences = self._confidences(log_probs, tokens, spans)
            del log_probs  # those of a long recording are large, and its alignment needs memory too
            times_s = self._times_s(utterance, tokens, spans, duration_s)
            transcripts.append(self._transcript(tokens, times_s, confidences, duration_s))
        return transcripts

    def _tokens(self, log_probs: Tensor) -> list[int]:
        """Decode (output frames, symbols) log-probabilities to symbol ids."""
        if len(log_probs) == 0:
            return []
        return self.decode(log_probs[None], torch.tensor([len(log_probs)]))[0]

    def _spans(self, log_probs: Tensor, tokens: Sequence[int]) -> list[Span]:
        """Find the output frames of each token: on the best path itself, or by aligning the beam search's result."""
        return best_path_spans(log_probs) if self.decode is best_path else align_tokens(log_probs, tokens)

    def _confidences(self, log_probs: Tensor, tokens: Sequence[int], spans: Sequence[Span]) -> list[float]:
        """Estimate the probability that each token is correct."""
        return [token.confidence(self.calibration.temperature) for token in evidence(log_probs, tokens, spans)]

    def _times_s(
        self, features: Tensor, tokens: Sequence[int], spans: Sequence[Span], duration_s: float
    ) -> list[tuple[float, float]]:
        """Find start and end of each phone in seconds, in order and without overlap.

        CTC's peaks tell where a phone is, not where it begins and ends: the aligner finds that. Silences fill the gaps.
        """
        config = self.bundle.features
        peaks = [(start + stop) / 2 * self.bundle.model.time_reduction for start, stop in spans]
        if self.aligner is None:
            peaks_s = [peak * config.frame_shift_ms / 1000 - config.padding_ms / 1000 for peak in peaks]
            return _times_around_peaks([min(max(peak_s, 0.0), duration_s) for peak_s in peaks_s], duration_s)
        positions = non_silence_positions(tokens, self.bundle.inventory)
        # Phones are looked for in the recording itself, not in the noise that padding puts around it.
        first, stop = frames_within(0.0, duration_s, config, len(features))
        near = [min(max(peaks[position] - first, 0.0), float(stop - first)) for position in positions]
        segments = align_phones(self.aligner, features[first:stop], [tokens[position] for position in positions], near)
        found_s = [
            (frame_edge_s(first + start, config), min(frame_edge_s(first + end, config), duration_s))
            for start, end in segments
        ]
        if stop - first < len(positions):  # some would have no frame, and no duration
            found_s = list(pairwise(np.linspace(0.0, duration_s, len(positions) + 1).tolist()))
        return _fill_silences(dict(zip(positions, found_s, strict=True)), len(tokens), duration_s)

    def _transcript(
        self,
        tokens: Sequence[int],
        times_s: Sequence[tuple[float, float]],
        confidences: Sequence[float],
        duration_s: float,
    ) -> Transcript:
        """Put symbols, times and confidences together."""
        symbols = self.bundle.inventory.decode(tokens)
        parts = zip(symbols, times_s, confidences, strict=True)
        return Transcript(tuple(Phone(symbol, *time_s, confidence) for symbol, time_s, confidence in parts), duration_s)


def _times_around_peaks(peaks_s: Sequence[float], duration_s: float) -> list[tuple[float, float]]:
    """Let each phone extend from its peak half way to its neighbours, at most `MAX_REACH_S`."""
    edges_s = [0.0, *((before + after) / 2 for before, after in pairwise(peaks_s)), duration_s]
    return [
        (max(peak_s - MAX_REACH_S, start_s), min(peak_s + MAX_REACH_S, end_s))
        for peak_s, (start_s, end_s) in zip(peaks_s, pairwise(edges_s), strict=False)
    ]


def _fill_silences(known_s: dict[int, tuple[float, float]], count: int, duration_s: float) -> list[tuple[float, float]]:
    """Give each silence the gap between its neighbours; consecutive silences share it evenly.

    ``known_s`` maps the positions of the other phones, among ``count``, to their times.
    """
    times_s: list[tuple[float, float]] = []
    position = 0
    while position < count:
        if position in known_s:
            times_s.append(known_s[position])
            position += 1
            continue
        stop = position
        while stop < count and stop not in known_s:
            stop += 1
        start_s = times_s[-1][1] if times_s else 0.0
        end_s = known_s[stop][0] if stop < count else duration_s
        step_s = (end_s - start_s) / (stop - position)
        times_s += [(start_s + step_s * index, start_s + step_s * (index + 1)) for index in range(stop - position)]
        position = stop
    return times_s
