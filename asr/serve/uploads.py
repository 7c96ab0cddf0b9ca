"""Audio of strangers -> samples, read in processes of their own (`asr.serve.upload_process`)."""

import os
import queue
import subprocess
import sys
import threading

import numpy as np

from asr.serve.limits import Limits, Refusal, took_too_long
from asr.serve.upload_process import SAMPLES, TOO_LONG, as_samples, read_answer


class UploadReaders:
    """A few processes that read uploads, each one upload at a time. One that dies or hangs is replaced."""

    def __init__(self, sample_rate_hz: int, limits: Limits, count: int = 2) -> None:
        """Processes start with the first uploads."""
        self._limits = limits
        self._command = [sys.executable, "-m", "asr.serve.upload_process", str(sample_rate_hz)]
        self._command += [str(limits.duration_s), str(limits.decoder_mb * 10**6)]
        self._idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def read(self, content: bytes) -> np.ndarray:
        """The samples of a file, (samples,) float32 at the model's rate. Blocks; to be called in a thread.

        Raises:
            Refusal: 413 too long; 415 not audio, or damaged; 503 not read in time.
        """
        try:
            process = self._idle.get(timeout=self._limits.request_s)
        except queue.Empty:
            raise took_too_long(self._limits) from None
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            kind, answer = self._ask(process, content)
        finally:
            self._idle.put(process)
        if kind == SAMPLES:
            return as_samples(answer)
        message = answer.decode()
        if kind == TOO_LONG:
            raise Refusal(413, "duration_s", message, "file")
        raise Refusal(415, "unreadable_audio", message, "file")

    def close(self) -> None:
        """End the processes."""
        while not self._idle.empty():
            if process := self._idle.get():
                process.kill()
                process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def _ask(self, process: "subprocess.Popen[bytes]", content: bytes) -> tuple[bytes, bytes]:
        """Send a file and wait for the answer; a process that takes too long is killed."""
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.request_s, kill)
        timer.start()
        try:
            process.stdin.write(len(content).to_bytes(8, "little") + content)
            process.stdin.flush()
            return read_answer(process.stdout)
        except (EOFError, OSError):
            process.kill()
            process.wait()
            if late.is_set():
                raise took_too_long(self._limits) from None
            raise Refusal(
                415, "unreadable_audio", "the audio could not be read, expected WAV, FLAC, OGG, MP3 or SPHERE", "file"
            ) from None
        finally:
            timer.cancel()
