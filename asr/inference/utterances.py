"""A stream of speech and silence, such as that of a microphone, cut into utterances that are recognized as they are spoken.

In:  samples (samples,) float32 at 16 kHz, in any pieces.
Out: `Update`s with times from the start; an utterance ends with a pause. Silence is not recognized and costs nothing.
Source of the voice activity detector: the package silero-vad (MIT), of which only the model is used.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.streaming import Stream, Update
from asr.inference.transcript_formats import Phone

RATE_HZ, BLOCK = 16000, 512
"""What the detector takes: 32 ms at a time."""
SPEECH, SILENCE = 0.5, 0.35
"""Speech begins above the first probability and goes on above the second."""
BEFORE_S, PAUSE_S = 0.4, 0.8
"""Audio before the detected begin that belongs to an utterance, and the silence that ends one."""


class VoiceActivity:
    """The probability of speech in each block of a stream."""

    def __init__(self) -> None:
        """Raises InputError: the package is not installed."""
        spec = find_spec("silero_vad")  # importing it would change the number of torch's threads
        if spec is None or not spec.submodule_search_locations:
            raise InputError("package silero-vad: not installed, expected pip install 'asr-phones[microphone]'")
        self._model = torch.jit.load(str(Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"))

    @torch.inference_mode()
    def __call__(self, block: np.ndarray) -> float:
        """The probability of speech in the next `BLOCK` samples."""
        return float(self._model(torch.from_numpy(block), RATE_HZ))


class UtteranceStream:
    """Utterances of one stream."""

    def __init__(self, recognizer: Recognizer, look_ahead_s: float | None = None) -> None:
        """``look_ahead_s`` is as `Stream` takes it.

        Raises:
            InputError: the model needs whole recordings or another sample rate, or the detector is not installed.
        """
        if recognizer.sample_rate_hz != RATE_HZ:
            raise InputError(f"model: {recognizer.sample_rate_hz} Hz, expected {RATE_HZ} to find utterances")
        self._recognizer, self._look_ahead_s = recognizer, look_ahead_s
        self.latency_s = self._new_stream().latency_s
        self._activity = VoiceActivity()
        self._stream: Stream | None = None
        self._start_s, self._seen, self._silence = 0.0, 0, 0  # of the utterance; samples so far; in the pause so far
        self._waiting = np.zeros(0, np.float32)  # less than a block
        self._before = np.zeros(0, np.float32)  # the last silence

    def accept(self, samples: np.ndarray, ended: bool = False) -> Iterator[Update]:
        """Take the next samples, the last ones if ``ended``; yield what is new."""
        pending = np.concatenate([self._waiting, samples])
        whole = len(pending) // BLOCK * BLOCK
        self._waiting = pending[whole:]
        for start in range(0, whole, BLOCK):
            yield from self._accept_block(pending[start : start + BLOCK])
        if ended and self._stream is not None:
            yield self._update(self._stream, self._waiting, True)
            self._stream = None

    def _accept_block(self, block: np.ndarray) -> Iterator[Update]:
        speech = self._activity(block) >= (SPEECH if self._stream is None else SILENCE)
        self._seen += BLOCK
        if self._stream is None:
            self._before = np.concatenate([self._before, block])
            if speech:
                self._stream, self._silence = self._new_stream(), 0
                self._start_s = (self._seen - len(self._before)) / RATE_HZ
                yield self._update(self._stream, self._before, False)
            self._before = self._before[-round(BEFORE_S * RATE_HZ) :]
            return
        self._silence = 0 if speech else self._silence + BLOCK
        over = self._silence >= PAUSE_S * RATE_HZ
        yield self._update(self._stream, block, over)
        if over:
            self._stream, self._before = None, block

    def _new_stream(self) -> Stream:
        return Stream(self._recognizer, self._look_ahead_s)

    def _update(self, stream: Stream, samples: np.ndarray, ended: bool) -> Update:
        update = stream.accept(samples, ended)
        return replace(update, final=self._shift(update.final), pending=self._shift(update.pending))

    def _shift(self, phones: list[Phone]) -> list[Phone]:
        return [
            replace(phone, start_s=phone.start_s + self._start_s, end_s=phone.end_s + self._start_s) for phone in phones
        ]
