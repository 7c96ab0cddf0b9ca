"""Phones while they are spoken: samples in, in any pieces; final phones and those that may still change out.

    stream = Stream(asr.load("streaming"))
    for samples in microphone:
        update = stream.accept(samples)

The log-probabilities are those of the whole recording at once in float32, whatever the bundle's precision. With best path,
a phone is final as soon as the next symbol begins. With beam search, it is final once nearly all hypotheses agree on it.
Final phones never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from asr.corpus.audio import MAX_AMPLITUDE
from asr.decoding.best_path import align_tokens, best_path, best_path_spans
from asr.errors import InputError
from asr.features.streamed import StreamedFeatures
from asr.inference.recognizer import MAX_REACH_S, Recognizer
from asr.inference.transcript_formats import Phone
from asr.nn.ctc import BLANK_ID, required_frames
from asr.nn.streamed import StreamedModel
from asr.scoring.calibration import evidence

Span = tuple[int, int]

IMPROBABLE = -20.0
"""Natural-log probability of labels in a frame that is over."""
BLANK_FRAMES = 25
"""Output frames that are kept where nothing is recognized: a second of those of 40 ms."""


@dataclass(frozen=True)
class Update:
    """The phones that have become final, and those after them that may still change. Times are from the stream's start.

    ``ended``: no more phones of this utterance will come.
    """

    final: list[Phone]
    pending: list[Phone]
    ended: bool = False


class Stream:
    """One stream of samples at the model's rate."""

    def __init__(self, recognizer: Recognizer, look_ahead_s: float | None = None) -> None:
        """``look_ahead_s`` is rounded to output frames; by default, the first that the model was trained for.

        Raises:
            InputError: the model needs whole recordings.
        """
        bundle = recognizer.bundle
        self._frame_s = bundle.model.time_reduction * bundle.features.frame_shift_ms / 1000
        look_ahead = None if look_ahead_s is None else round(look_ahead_s / self._frame_s)
        self._features = StreamedFeatures(bundle.features, bundle.statistics.get(""))
        self._model = StreamedModel(bundle.model, look_ahead)
        self._recognizer = recognizer
        self._search = None
        if recognizer.decode is not best_path:
            from asr.decoding.beam_search import BeamSearch
            from asr.decoding.streamed_search import StreamedSearch  # needs numba, which takes a second to import

            assert isinstance(recognizer.decode, BeamSearch)
            self._search = StreamedSearch(recognizer.decode, len(bundle.inventory.symbols))
        self._log_probs = torch.zeros(0, len(bundle.inventory.symbols))  # after the last final phone
        self._first, self._last_end_s, self._samples = 0, 0.0, 0
        self._pending: list[Phone] = []
        self._ended = False

    @property
    def latency_s(self) -> float:
        """The most that a frame's log-probabilities lag behind it: a chunk, its look-ahead and the features' context."""
        model, config = self._model, self._recognizer.bundle.features
        context = model.model.front_end.reach * config.frame_shift_ms + config.frame_length_ms
        return (model.chunk + model.look_ahead) * self._frame_s + context / 1000

    def accept(self, samples: np.ndarray, ended: bool = False) -> Update:
        """Take the next samples (samples,) floating point, the last ones if ``ended``.

        Raises:
            InputError: the samples are not as expected, or the stream has ended.
        """
        if self._ended or samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            found = "after its end" if self._ended else f"{samples.dtype} {samples.shape}"
            raise InputError(f"samples of a stream: {found}, expected floating point (samples,)")
        if not (np.abs(samples) <= MAX_AMPLITUDE).all():
            raise InputError("a sample of the stream is not finite or out of range, expected numbers around 1")
        self._samples, self._ended = self._samples + len(samples), ended
        new = self._model.accept(self._features.accept(samples), ended)
        if len(new) == 0 and not ended:
            return Update([], self._pending)
        self._log_probs = torch.cat([self._log_probs, new])
        tokens, final, shown = self._decode(new, ended)
        spans = self._spans(tokens)
        phones = self._phones(tokens, spans)
        if final:
            self._last_end_s = phones[final - 1].end_s
            self._forget(spans[final - 1][1])
        elif not tokens:
            self._forget(max(0, len(self._log_probs) - BLANK_FRAMES))
        self._pending = phones[final:shown]
        return Update(phones[:final], self._pending, ended)

    def _forget(self, frames: int) -> None:
        """Drop output frames that are over. With beam search, a blank stays: later hypotheses may have a label there."""
        self._first, self._log_probs = self._first + frames, self._log_probs[frames:]
        if self._search:
            blank = torch.full((1, self._log_probs.shape[1]), IMPROBABLE)
            blank[0, BLANK_ID] = 0.0
            self._first, self._log_probs = self._first - 1, torch.cat([blank, self._log_probs])

    def _decode(self, new: Tensor, ended: bool) -> tuple[list[int], int, int]:
        """The symbol ids after the last final phone, and how many of them are final, and final or to be shown."""
        if self._search:
            agreed = self._search.accept(new.numpy())
            best, shown = self._search.pending(ended)
            tokens = [*agreed, *best]
            return tokens, len(tokens) if ended else len(agreed), len(agreed) + shown
        spans = best_path_spans(self._log_probs)
        over = sum(stop < len(self._log_probs) for _, stop in spans)
        tokens = [int(self._log_probs[start].argmax()) for start, _ in spans]
        return tokens, len(tokens) if ended else over, len(tokens)

    def _spans(self, tokens: Sequence[int]) -> list[Span]:
        """The output frames of each token after the last final phone."""
        if not self._search:
            return best_path_spans(self._log_probs)
        frames = len(self._log_probs)
        if tokens and int(required_frames(torch.tensor([list(tokens)]), torch.tensor([len(tokens)]))) > frames:
            edges = np.linspace(0, frames, len(tokens) + 1).astype(int).tolist()  # some lie before the last final phone
            return [(min(start, frames - 1), max(stop, start + 1)) for start, stop in pairwise(edges)]
        return align_tokens(self._log_probs, tokens)

    def _phones(self, tokens: Sequence[int], spans: Sequence[Span]) -> list[Phone]:
        """Phones around CTC's peaks: half way to their neighbours, at most `MAX_REACH_S`."""
        bundle, temperature = self._recognizer.bundle, self._recognizer.calibration.temperature
        now_s = self._samples / bundle.features.sample_rate_hz
        peaks_s = [(self._first + (start + stop) / 2) * self._frame_s for start, stop in spans]
        confidences = [each.confidence(temperature) for each in evidence(self._log_probs, tokens, spans)]
        phones, end_s = [], self._last_end_s
        for index, (symbol, confidence) in enumerate(zip(bundle.inventory.decode(tokens), confidences, strict=True)):
            peak_s = peaks_s[index]
            following_s = (peak_s + peaks_s[index + 1]) / 2 if index + 1 < len(peaks_s) else now_s
            start_s = max(end_s, peak_s - MAX_REACH_S)
            end_s = max(start_s, min(following_s, peak_s + MAX_REACH_S, now_s))
            phones.append(Phone(symbol, start_s, end_s, confidence))
        return phones
