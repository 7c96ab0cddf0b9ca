"""Audio of strangers -> samples, read in processes of their own (`asr.serve.upload_process`)."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import numpy as np
from fastapi import UploadFile

from asr.corpus.audio import FORMATS
from asr.serve.limits import Limits, Refusal
from asr.serve.upload_process import HEAD_BYTES, SAMPLES, TOO_LONG, as_samples, parse_head

READERS = 2
BLOCK_BYTES = 2**20


class UploadReaders:
    """A few processes that read uploads, each one upload at a time. One that dies or takes too long is replaced."""

    def __init__(self, sample_rate_hz: int, limits: Limits) -> None:
        """Processes start with the first uploads."""
        # -P: no module is taken from the current folder.
        self._command = [sys.executable, "-P", "-m", "asr.serve.upload_process", str(sample_rate_hz)]
        self._command += [str(limits.duration_s), str(limits.decoder_mb * 10**6)]
        self._free = asyncio.Semaphore(READERS)
        self._idle: list[Process] = []
        self._busy: set[Process] = set()

    async def read(self, file: UploadFile) -> np.ndarray:
        """The samples of a file, (samples,) float32 at the model's rate.

        Raises:
            Refusal: 413 too long; 415 not audio, or damaged.
        """
        async with self._free:
            kind, content = await self._ask(file)
        if kind == SAMPLES:
            return as_samples(content)
        if kind == TOO_LONG:
            raise Refusal(413, "duration_s", content.decode(), "file")
        raise Refusal(415, "unreadable_audio", content.decode(), "file")

    async def close(self) -> None:
        """End the processes, also those that are reading."""
        for process in self._busy:
            with suppress(ProcessLookupError):
                process.kill()
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, file: UploadFile) -> tuple[bytes, bytes]:
        """Send a file to a process that is free, and wait for its answer."""
        process = self._idle.pop() if self._idle else await self._start()
        if process.returncode is not None:
            process = await self._start()
        self._busy.add(process)
        try:
            answer = await _exchange(process, file)
        except (EOFError, OSError):
            message = f"the audio could not be read, expected {FORMATS}"
            raise Refusal(415, "unreadable_audio", message, "file") from None
        else:
            self._idle.append(process)
            return answer
        finally:
            self._busy.discard(process)
            if process not in self._idle:  # it has died, or the request has been cancelled
                await asyncio.shield(_end(process))

    async def _start(self) -> Process:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # A session of its own: Ctrl-C in a terminal is for the server, which ends its processes.
        return await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
        )


async def _exchange(process: Process, file: UploadFile) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write((file.size or 0).to_bytes(8, "little"))
    while block := await file.read(BLOCK_BYTES):
        process.stdin.write(block)
        await process.stdin.drain()
    await process.stdin.drain()
    kind, size = parse_head(await process.stdout.readexactly(HEAD_BYTES))
    return kind, await process.stdout.readexactly(size)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    with suppress(OSError):
        await process.communicate()
