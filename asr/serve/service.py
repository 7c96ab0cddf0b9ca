"""What the routes share: the model, the processes that read uploads, what waits, and the counters."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
from fastapi import UploadFile
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from asr.corpus.pronunciations import WordPronunciations
from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript
from asr.serve.batches import BatchRecognizer
from asr.serve.limits import Limits, Refusal, too_busy, took_too_long
from asr.serve.uploads import UploadReaders


class Service:
    """A served model. Its methods are called from the event loop and do not block it."""

    def __init__(self, name: str, recognizer: Recognizer, limits: Limits, words: WordPronunciations) -> None:
        """``name`` is that of the model in requests and answers; ``words`` pronounces texts."""
        self.name, self.limits, self.started_s, self.words = name, limits, int(time.time()), words
        self.registry = CollectorRegistry()
        self.requests = Counter("asr_requests", "requests", ["route", "status"], registry=self.registry)
        self.waiting = Gauge("asr_requests_waiting", "requests that wait or run", registry=self.registry)
        self.streams = Gauge("asr_streams", "open streams", registry=self.registry)
        self.audio_s = Counter("asr_audio_seconds", "seconds of audio recognized", registry=self.registry)
        self.batch_sizes = Histogram(
            "asr_batch_size", "requests in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.request_s = Histogram("asr_request_seconds", "time of a request", ["route"], registry=self.registry)
        self.readers = UploadReaders(recognizer.sample_rate_hz, limits)
        self.recognizer = recognizer
        self.batches = BatchRecognizer(recognizer, self._count_batch)
        self._pending = self._streams = 0

    def _count_batch(self, size: int, seconds: float) -> None:
        self.batch_sizes.observe(size)
        self.audio_s.inc(seconds)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while it waits or runs.

        Raises:
            Refusal: too many do.
        """
        if self._pending >= self.limits.queue:
            raise too_busy(self.limits)
        self._pending += 1
        self.waiting.set(self._pending)
        try:
            yield
        finally:
            self._pending -= 1
            self.waiting.set(self._pending)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            Refusal: too many are.
        """
        if self._streams >= self.limits.streams:
            raise Refusal(503, "streams", f"{self._streams} streams are open, expected fewer: try again later")
        self._streams += 1
        self.streams.set(self._streams)
        try:
            yield
        finally:
            self._streams -= 1
            self.streams.set(self._streams)

    def check_model(self, model: str) -> None:
        """Refuse a request for another model."""
        if model != self.name:
            raise Refusal(404, "model_not_found", f"model {model[:100]!r}, expected {self.name!r}", "model")

    async def samples(self, file: UploadFile) -> np.ndarray:
        """Read an upload, (samples,) float32."""
        return await run_in_threadpool(self.readers.read, await file.read())

    async def transcript(self, samples: np.ndarray) -> Transcript:
        """Recognize in the next batch."""
        if len(samples) == 0:
            return Transcript((), 0.0)
        return await self._in_time(self.batches.submit(samples))

    async def aligned(self, samples: np.ndarray, phones: list[str]) -> Transcript:
        """Align phones with samples."""
        try:
            return await run_in_threadpool(self.recognizer.align, samples, phones, self.recognizer.sample_rate_hz)
        except InputError as error:
            raise Refusal(422, "phones", str(error), "phones") from None

    async def _in_time(self, result: "Future[Transcript]") -> Transcript:
        try:
            async with asyncio.timeout(self.limits.request_s):
                return await asyncio.wrap_future(result)
        except TimeoutError:
            raise took_too_long(self.limits) from None

    def close(self) -> None:
        """Finish what runs, end the thread and the processes."""
        self.batches.close()
        self.readers.close()
