"""Phones while they are spoken: the last seconds of a stream are recognized again and again as it grows.

The model sees the whole of these seconds in both directions, so its last phones may change. A phone is final once
`LOOK_AHEAD_S` of speech have followed it; final phones never change.
"""

from dataclasses import dataclass, field

import numpy as np
import soxr

from asr.inference.transcript_formats import Phone, Transcript

STEP_S = 0.3
"""New audio before the stream is recognized again."""
CONTEXT_S = 5.0
"""Audio before the last final phone that is recognized again, for its context."""
LOOK_AHEAD_S = 0.8


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
        final = [phone for phone in new if phone.end_s <= limit_s]
        if final:
            self.final_until_s = final[-1].end_s
        elif not new:  # silence is final too
            self.final_until_s = max(self.final_until_s, min(limit_s, self._recognized_s - LOOK_AHEAD_S))
        return final, new[len(final) :]

    def _append(self, samples: np.ndarray, last: bool) -> None:
        resampled = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, resampled])
        self.duration_s = self._start_s + len(self._samples) / self.model_rate_hz
