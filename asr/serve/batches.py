"""Requests that arrive together are recognized in one batch. A result does not depend on the others in its batch."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from asr.inference.recognizer import Recognizer
from asr.inference.transcribe import FILES_AT_ONCE, FRAMES_AT_ONCE
from asr.inference.transcript_formats import Transcript

WAIT_S = 0.005
"""How long a request waits for others to share its batch."""


class _Request(NamedTuple):
    samples: np.ndarray
    result: "Future[Transcript]"


class BatchRecognizer:
    """One thread that recognizes all requests, in batches of those that wait."""

    def __init__(
        self, recognizer: Recognizer, on_batch: Callable[[int, float], None] = lambda size, seconds: None
    ) -> None:
        """``on_batch`` is told the size of each batch and the seconds of audio in it."""
        self.recognizer = recognizer
        self._on_batch = on_batch
        self._requests: queue.Queue[_Request | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="recognizer", daemon=True)
        self._thread.start()

    def submit(self, samples: np.ndarray) -> "Future[Transcript]":
        """Recognize (samples,) float32 at the model's rate. A request that is cancelled while it waits is dropped."""
        result: Future[Transcript] = Future()
        self._requests.put(_Request(samples, result))
        return result

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._requests.get()) is not None:
            batch, ended = self._collect(first)
            running = [request for request in batch if request.result.set_running_or_notify_cancel()]
            if running:
                self._recognize(running)
            if ended:
                return

    def _collect(self, first: _Request) -> tuple[list[_Request], bool]:
        """The requests that wait, up to the size of a batch, and whether the end has been reached."""
        rate_hz = self.recognizer.sample_rate_hz
        batch, most = [first], FRAMES_AT_ONCE / 100 * rate_hz
        while len(batch) < FILES_AT_ONCE and sum(len(request.samples) for request in batch) < most:
            try:
                request = self._requests.get(timeout=WAIT_S)
            except queue.Empty:
                break
            if request is None:
                return batch, True
            batch.append(request)
        return batch, False

    def _recognize(self, batch: list[_Request]) -> None:
        recognizer = self.recognizer
        try:
            inputs = [recognizer.features(request.samples, recognizer.sample_rate_hz) for request in batch]
            durations_s = [duration_s for _, duration_s in inputs]
            transcripts = recognizer.recognize([features for features, _ in inputs], durations_s)
        except Exception as error:  # every request must get an answer, and a bad one may not spoil the others
            if len(batch) == 1:
                batch[0].result.set_exception(error)
            else:
                for request in batch:
                    self._recognize([request])
            return
        for request, transcript in zip(batch, transcripts, strict=True):
            request.result.set_result(transcript)
        self._on_batch(len(batch), sum(durations_s))
