"""A model ready for use: audio -> phones with times and confidences, log-probabilities, alignments.

    recognizer = asr.load("runs/first/model")
    for phone in recognizer.transcribe("hello.wav").phones:
        print(phone.symbol, phone.start_s, phone.end_s, phone.confidence)

A recognizer holds nothing that changes: threads may share one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.corpus.audio import LOUDEST, probe_audio, read_blocks, resample
from asr.decoding.best_path import Decoder, align_tokens, best_path, best_path_spans
from asr.errors import InputError
from asr.features.filterbanks import extract, extract_blocks, feature_dim
from asr.features.frames import frame_edge_s
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.forced_alignment import FrameClassifier, align, load_aligner, without_silence
from asr.inference.transcript_formats import Phone, Transcript
from asr.inference.windows import log_probs_of
from asr.nn.ctc import required_frames
from asr.scoring.calibration import evidence, load_temperature

Audio = str | Path | np.ndarray
EMPTY = torch.empty(0)


@dataclass(frozen=True)
class Recognizer:
    """A bundle with what lies beside it: the temperature of its confidences, its aligner, a decoder."""

    bundle: Bundle
    temperature: float = 1.0
    aligner: FrameClassifier | None = None
    decode: Decoder = best_path

    @property
    def sample_rate_hz(self) -> int:
        """Of the samples the model takes; others are resampled."""
        return self.bundle.features.sample_rate_hz

    @property
    def phones(self) -> tuple[str, ...]:
        """All phones the model knows."""
        return self.bundle.inventory.symbols[1:]

    def samples(self, audio: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """An array (samples,) or (samples, channels) at its rate as the model takes it, (samples,) float32.

        Raises:
            InputError: no rate, another shape or type, or a sample that is not finite.
        """
        if not sample_rate_hz or sample_rate_hz < 1:
            raise InputError(f"sample_rate_hz is {sample_rate_hz}, expected the rate of the samples")
        if audio.ndim not in (1, 2) or audio.size == 0 or not np.issubdtype(audio.dtype, np.floating):
            expected = "floating point (samples,) or (samples, channels)"
            raise InputError(f"samples are {audio.dtype} {audio.shape}, expected {expected}")
        mono = (audio if audio.ndim == 1 else audio.mean(axis=1)).astype(np.float32)
        if not (np.abs(mono) <= LOUDEST).all():
            raise InputError("a sample is not finite or beyond all bounds, expected numbers around 1")
        return resample(mono, sample_rate_hz, self.sample_rate_hz)

    def features(self, audio: Audio, sample_rate_hz: int | None = None) -> tuple[Tensor, float]:
        """Normalized features (frames, dim) of a file or an array, and its duration in seconds.

        Raises:
            InputError: a file that cannot be used, or an array as `samples` says.
        """
        config = self.bundle.features
        if isinstance(audio, np.ndarray):
            samples = self.samples(audio, sample_rate_hz)
            raw, count = extract(samples, config), len(samples)
        else:
            path, rate = Path(audio), self.sample_rate_hz
            expected = round(probe_audio(path).duration_s * rate)
            raw, count = extract_blocks(read_blocks(path, rate), expected, config)
        normalized = normalize(raw, config, "", self.bundle.statistics, in_place=True)
        return normalized, count / self.sample_rate_hz

    def log_probs(self, audio: Audio, sample_rate_hz: int | None = None) -> np.ndarray:
        """Natural-log probabilities (output frames, symbols) float32, symbol 0 the blank, then `phones`.

        Raises:
            InputError: a file that cannot be used, or an array as `samples` says.
        """
        features, _ = self.features(audio, sample_rate_hz)
        return log_probs_of(self.bundle, [features])[0].float().cpu().numpy()

    def transcribe(self, audio: Audio, sample_rate_hz: int | None = None) -> Transcript:
        """The phones of a file or an array.

        Raises:
            InputError: a file that cannot be used, or an array as `samples` says.
        """
        return self.transcribe_batch([audio], sample_rate_hz)[0]

    def transcribe_batch(self, audios: Sequence[Audio], sample_rate_hz: int | None = None) -> list[Transcript]:
        """The phones of several files or arrays; quicker than one after the other.

        Raises:
            InputError: a file that cannot be used, or an array as `samples` says.
        """
        found = [self.features(one, sample_rate_hz) for one in audios]
        return self.recognize([features for features, _ in found], [duration_s for _, duration_s in found])

    def recognize(self, features: Sequence[Tensor], durations_s: Sequence[float]) -> list[Transcript]:
        """The phones of recordings that features (frames, dim) have been computed of."""
        log_probs = log_probs_of(self.bundle, features)
        results = []
        for number, (one, duration_s) in enumerate(zip(features, durations_s, strict=True)):
            rows, log_probs[number] = log_probs[number], EMPTY  # of a long recording they are much to keep
            (tokens,) = self.decode(rows[None], torch.tensor([len(rows)])) if len(rows) else ([],)
            spans = best_path_spans(rows) if self.decode is best_path else align_tokens(rows, tokens)
            sure = self._confidences(rows, tokens, spans)
            del rows
            results.append(self._transcript(one, tokens, spans, sure, duration_s))
        return results

    def align(self, audio: Audio, phones: Sequence[str], sample_rate_hz: int | None = None) -> Transcript:
        """Where the phones of a recording lie, given what they are.

        Raises:
            InputError: as `transcribe`; an unknown phone, or more phones than the recording has room for.
        """
        name = "samples" if isinstance(audio, np.ndarray) else str(audio)
        features, duration_s = self.features(audio, sample_rate_hz)
        log_probs = log_probs_of(self.bundle, [features])[0]
        tokens = self.bundle.inventory.encode(phones, name)
        needed = int(required_frames(torch.tensor([tokens or [0]]), torch.tensor([len(tokens)])))
        if needed > len(log_probs):
            has = f"the recording has {len(log_probs)}"
            raise InputError(f"{name}: {len(tokens)} phones need {needed} output frames, {has}, expected fewer phones")
        spans = align_tokens(log_probs, tokens)
        return self._transcript(features, tokens, spans, self._confidences(log_probs, tokens, spans), duration_s)

    def _confidences(self, log_probs: Tensor, tokens: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[float]:
        return [one.confidence(self.temperature) for one in evidence(log_probs, tokens, spans)]

    def _transcript(
        self,
        features: Tensor,
        tokens: Sequence[int],
        spans: Sequence[tuple[int, int]],
        sure: Sequence[float],
        duration_s: float,
    ) -> Transcript:
        times = self._times_s(features, tokens, spans, duration_s)
        symbols = self.bundle.inventory.decode(tokens)
        phones = [Phone(symbol, *time, one) for symbol, time, one in zip(symbols, times, sure, strict=True)]
        return Transcript(tuple(phones), duration_s)

    def _times_s(
        self, features: Tensor, tokens: Sequence[int], spans: Sequence[tuple[int, int]], duration_s: float
    ) -> list[tuple[float, float]]:
        """Start and end of each phone, in order and without overlap; a silence fills what lies between its neighbours."""
        reduction = self.bundle.model.time_reduction
        peaks = [(start + stop) / 2 * reduction for start, stop in spans]
        if self.aligner is None:
            return _around_peaks(peaks, self.bundle.features.frame_shift_ms / 1000, duration_s)
        spoken = without_silence(tokens, self.bundle.inventory)
        frames = align(self.aligner, features, [tokens[place] for place in spoken], [peaks[place] for place in spoken])
        config = self.bundle.features
        known = {
            place: (frame_edge_s(start, config), min(frame_edge_s(stop, config), duration_s))
            for place, (start, stop) in zip(spoken, frames, strict=True)
        }
        return _with_silences(known, len(tokens), duration_s)


def load(model: str | Path, device: str = "cpu", precision: str = "auto", decoder: str = "best_path") -> Recognizer:
    """A recognizer from a model folder.

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
    return Recognizer(bundle, load_temperature(path) or 1.0, aligner, decode)


LONGEST_REACH_S = 0.1
"""Without an aligner a phone goes half way to its neighbours' peaks, but no farther than this from its own."""


def _around_peaks(peaks: Sequence[float], step_s: float, duration_s: float) -> list[tuple[float, float]]:
    places = [min(peak * step_s, duration_s) for peak in peaks]
    edges = [0.0, *((one + two) / 2 for one, two in pairwise(places)), duration_s]
    return [
        (max(place - LONGEST_REACH_S, before), min(place + LONGEST_REACH_S, after))
        for place, (before, after) in zip(places, pairwise(edges), strict=False)
    ]


def _with_silences(known: dict[int, tuple[float, float]], count: int, duration_s: float) -> list[tuple[float, float]]:
    """The times of all phones, where those of silences are what their neighbours leave; silences in a row share it."""
    times: list[tuple[float, float]] = []
    place = 0
    while place < count:
        if place in known:
            times.append(known[place])
            place += 1
            continue
        run = place
        while run < count and run not in known:
            run += 1
        start, end = times[-1][1] if times else 0.0, known[run][0] if run < count else duration_s
        step = (end - start) / (run - place)
        times += [(start + step * number, start + step * (number + 1)) for number in range(run - place)]
        place = run
    return times
