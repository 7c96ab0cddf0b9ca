"""What the routes share: the model, the processes that read uploads, what waits, and the counters."""

import asyncio
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Literal, TypeVar, get_args

import numpy as np
from fastapi import UploadFile
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from asr.corpus.notation import translate
from asr.corpus.pronunciations import WordPronunciations
from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript
from asr.serve.batches import BatchRecognizer
from asr.serve.limits import Limits, Refusal, too_busy, too_many_cells, too_much_audio
from asr.serve.uploads import UploadReaders

CLOSE_S = 0.5
"""How long the last batch may take when the server ends: by then, requests have had their time."""

Notation = Literal["model", "ipa", "arpabet", "timit", "xsampa"]
T = TypeVar("T")


class Service:
    """A served model. Its methods are called from the event loop and do not block it."""

    def __init__(self, name: str, recognizer: Recognizer, limits: Limits, words: WordPronunciations) -> None:
        """``name`` is that of the model in requests and answers; ``words`` pronounces texts."""
        self.name, self.limits, self.started_s, self.words = name, limits, int(time.time()), words
        self.registry = CollectorRegistry()
        self.requests = Counter("asr_requests", "requests", ["route", "status"], registry=self.registry)
        self.waiting = Gauge("asr_requests_waiting", "requests that arrive, wait or run", registry=self.registry)
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
        self._decoded: list[weakref.ref[np.ndarray]] = []

    def _count_batch(self, size: int, seconds: float) -> None:
        self.batch_sizes.observe(size)
        self.audio_s.inc(seconds)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while it arrives, waits or runs.

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

    @cached_property
    def notations(self) -> dict[str, Mapping[str, str | None]]:
        """The notations that the model's phones can be written in, and their symbols there, None if they have none."""
        phones = self.recognizer.bundle.inventory
        found: dict[str, Mapping[str, str | None]] = {"model": {}}
        for notation in get_args(Notation):
            with suppress(InputError):
                found.setdefault(notation, translate(phones.symbols[1:], phones.notation, notation))
        return found

    def symbols(self, notation: str) -> Mapping[str, str | None]:
        """The model's phones in a notation; none for the model's own.

        Raises:
            Refusal: they cannot be written in it.
        """
        if notation not in self.notations:
            message = f"notation {notation[:20]!r}, expected one of {', '.join(self.notations)}"
            raise Refusal(422, "notation", message, "notation")
        return self.notations[notation]

    def check_model(self, model: str) -> None:
        """Refuse a request for another model."""
        if model != self.name:
            raise Refusal(404, "model_not_found", f"model {model[:100]!r}, expected {self.name!r}", "model")

    async def samples(self, file: UploadFile) -> np.ndarray:
        """Read an upload, (samples,) float32.

        Raises:
            Refusal: it cannot be read, or as much audio as allowed is waiting.
        """
        samples = await self.readers.read(file)
        others = [found for reference in self._decoded if (found := reference()) is not None]
        waiting_s = (sum(map(len, others)) + len(samples)) / self.recognizer.sample_rate_hz
        if others and waiting_s > self.limits.decoded_s:
            raise too_much_audio(self.limits)
        self._decoded = [weakref.ref(found) for found in (*others, samples)]
        return samples

    async def transcript(self, samples: np.ndarray) -> Transcript:
        """Recognize in the next batch."""
        if len(samples) == 0:
            return Transcript((), 0.0)
        try:
            return await asyncio.wrap_future(self.batches.submit(samples))
        except InputError as error:
            raise _refused(error, 415, "unreadable_audio", "file") from None

    async def aligned(self, samples: np.ndarray, phones: list[str], param: str = "phones") -> Transcript:
        """Align phones with samples. ``param`` is the parameter of the request that they come from.

        Raises:
            Refusal: unknown phones, more than the recording has frames for, or more than the limit.
        """
        recognizer = self.recognizer
        bundle, rate_hz = recognizer.bundle, recognizer.sample_rate_hz
        frame_s = bundle.features.frame_shift_ms / 1000 * bundle.model.time_reduction
        frames = round(len(samples) / rate_hz / frame_s)
        if frames * len(phones) > self.limits.align_cells:
            raise too_many_cells(self.limits, frames, len(phones), param)
        try:
            return await self.run(lambda: recognizer.align(samples, phones, rate_hz))
        except InputError as error:
            raise _refused(error, 422, param, param) from None

    async def run(self, work: Callable[[], T]) -> T:
        """Do something else with the model, after what waits: all its work is done by one thread."""
        return await asyncio.wrap_future(self.batches.call(work))

    async def close(self) -> None:
        """End the processes and, if it can, the thread."""
        await self.readers.close()
        await asyncio.get_running_loop().run_in_executor(None, self.batches.close, CLOSE_S)


def _refused(error: InputError, status: int, code: str, param: str) -> Refusal:
    """An error as a refusal. Its traceback knows the samples, and the futures that it came from live for a while."""
    return Refusal(status, code, str(error.with_traceback(None)), param)
