"""Phones while they are spoken, for the stream of one client.

A model made for streams (`asr.inference.streaming`) recognizes speech once: `ModelStream`. With others, the last
seconds are recognized again and again as the stream grows: `Stream`. The model then sees the whole of these seconds in both
directions, so its last phones may change; a phone is final once `LOOK_AHEAD_S` of speech have followed it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import soxr

from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Phone, Transcript
from asr.inference.utterances import UtteranceStream

if TYPE_CHECKING:
    from asr.serve.service import Service

STEP_S = 0.3
"""New audio before the stream is recognized again."""
CONTEXT_S = 5.0
"""Audio before the last final phone that is recognized again, for its context."""
LOOK_AHEAD_S = 0.8
MODEL_STEP_S = 0.1
"""New audio before a model made for streams is run."""
LONGEST_S = 10.0
"""A phone that has lasted so long is final as it is: what is recognized again must not grow with the stream."""


@dataclass
class Stream:
    """A stream of 16-bit samples at one rate, as far as it has arrived. Times are in seconds from its start."""

    sample_rate_hz: int
    model_rate_hz: int
    duration_s: float = 0.0
    final_until_s: float = 0.0
    _start_s: float = 0.0
    _recognized_s: float = 0.0
    _samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        """Prepare the resampler, which keeps the stream's state."""
        self._resampler = soxr.ResampleStream(self.sample_rate_hz, self.model_rate_hz, 1, dtype="float32", quality="HQ")

    def add(self, content: bytes) -> bool:
        """Add 16-bit little-endian samples; returns whether it is time to recognize again."""
        self._append(np.frombuffer(content, "<i2").astype(np.float32) / 32768, last=False)
        return self.duration_s - self._recognized_s >= STEP_S

    def end(self) -> None:
        """Nothing more will come."""
        self._append(np.zeros(0, np.float32), last=True)

    def window(self) -> np.ndarray:
        """The samples to recognize now, (samples,) float32 at the model's rate."""
        skipped = round(max(0.0, self.final_until_s - CONTEXT_S - self._start_s) * self.model_rate_hz)
        self._samples = self._samples[skipped:]
        self._start_s += skipped / self.model_rate_hz
        self._recognized_s = self.duration_s
        return self._samples

    def update(self, transcript: Transcript, ended: bool) -> tuple[list[Phone], list[Phone]]:
        """Take the phones of the last window; returns those that have become final, and those that may change."""
        moved = [
            Phone(phone.symbol, self._start_s + phone.start_s, self._start_s + phone.end_s, phone.confidence)
            for phone in transcript.phones
        ]
        new = [phone for phone in moved if (phone.start_s + phone.end_s) / 2 >= self.final_until_s]
        limit_s = float("inf") if ended else self._recognized_s - LOOK_AHEAD_S
        final = [phone for phone in new if phone.end_s <= limit_s or phone.start_s < self._recognized_s - LONGEST_S]
        pending = new[len(final) :]
        silent_until_s = min([self._recognized_s - LOOK_AHEAD_S, *(phone.start_s for phone in pending[:1])])
        self.final_until_s = max([self.final_until_s, silent_until_s, *(phone.end_s for phone in final[-1:])])
        return final, pending

    async def recognize(self, service: "Service", ended: bool) -> tuple[list[Phone], list[Phone]]:
        """The phones that have become final, and those that may change."""
        return self.update(await service.transcript(self.window()), ended)

    def _append(self, samples: np.ndarray, last: bool) -> None:
        resampled = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, resampled])
        self.duration_s = self._start_s + len(self._samples) / self.model_rate_hz


class ModelStream:
    """The same for a model made for streams."""

    def __init__(self, sample_rate_hz: int, recognizer: Recognizer) -> None:
        """Raises InputError: the model needs whole recordings, or what finds speech is not installed."""
        self._stream = UtteranceStream(recognizer)
        self._pending: list[Phone] = []
        self._rate_hz = recognizer.sample_rate_hz
        self._resampler = soxr.ResampleStream(sample_rate_hz, self._rate_hz, 1, dtype="float32", quality="HQ")
        self._new: list[np.ndarray] = []
        self.duration_s = self._recognized_s = 0.0

    def add(self, content: bytes) -> bool:
        """Add 16-bit little-endian samples; returns whether it is time to recognize."""
        self._append(np.frombuffer(content, "<i2").astype(np.float32) / 32768, last=False)
        return self.duration_s - self._recognized_s >= MODEL_STEP_S

    def end(self) -> None:
        """Nothing more will come."""
        self._append(np.zeros(0, np.float32), last=True)

    async def recognize(self, service: "Service", ended: bool) -> tuple[list[Phone], list[Phone]]:
        """The phones that have become final, and those that may change."""
        samples, self._new = np.concatenate(self._new), []
        self._recognized_s = self.duration_s
        updates = await service.run(lambda: list(self._stream.accept(samples, ended)))
        self._pending = updates[-1].pending if updates else self._pending
        return [phone for update in updates for phone in update.final], self._pending

    def _append(self, samples: np.ndarray, last: bool) -> None:
        self._new.append(self._resampler.resample_chunk(samples, last=last))
        self.duration_s += len(self._new[-1]) / self._rate_hz


def open_stream(sample_rate_hz: int, recognizer: Recognizer) -> Stream | ModelStream:
    """A stream for this model."""
    try:
        return ModelStream(sample_rate_hz, recognizer)
    except InputError:
        return Stream(sample_rate_hz, recognizer.sample_rate_hz)
