"""Requests that arrive together are recognized in one batch. A result does not depend on the others in its batch."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np

from asr.inference.recognizer import Recognizer
from asr.inference.transcribe import FILES_AT_ONCE, FRAMES_AT_ONCE
from asr.inference.transcript_formats import Transcript

WAIT_S = 0.005
"""How long a request waits for others to share its batch."""


T = TypeVar("T")


class _Request(NamedTuple):
    """Samples to recognize, or something else to do."""

    result: "Future[Any]"
    samples: np.ndarray
    work: Callable[[], Any] | None = None


class BatchRecognizer:
    """One thread that does all the work of the model: it recognizes in batches of those that wait, and aligns."""

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
        self._requests.put(_Request(result, samples))
        return result

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Do something else with the model, after what waits. A call that is cancelled while it waits is dropped."""
        result: Future[T] = Future()
        self._requests.put(_Request(result, np.zeros(0, np.float32), work))
        return result

    def close(self, within_s: float | None = None) -> None:
        """Finish what waits, then end the thread. Without an end ``within_s`` it is left to the end of the process."""
        self._requests.put(None)
        self._thread.join(within_s)

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while self._run_batch():
            pass

    def _run_batch(self) -> bool:
        """Do what waits, up to the size of a batch. Returns whether more may come."""
        if (first := self._requests.get()) is None:
            return False
        batch, ended = self._collect(first)
        running = [request for request in batch if request.result.set_running_or_notify_cancel()]
        if recordings := [request for request in running if request.work is None]:
            self._recognize(recordings)
        for request in running:
            if request.work is not None:
                _work(request.result, request.work)
        return not ended

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
            del batch  # the error knows this frame, and would keep the samples
            return
        for request, transcript in zip(batch, transcripts, strict=True):
            request.result.set_result(transcript)
        self._on_batch(len(batch), sum(durations_s))


def _work(result: "Future[T]", work: Callable[[], T]) -> None:
    try:
        result.set_result(work())
    except Exception as error:  # whoever waits for it must get an answer
        result.set_exception(error)
        del result, work  # as above
