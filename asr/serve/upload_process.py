"""A process that reads the audio of strangers: a damaged or hostile file can take down this process alone.

    python -m asr.serve.upload_process SAMPLE_RATE_HZ MAX_DURATION_S MAX_BYTES

Reads from standard input, as often as asked: the size of a file (8 bytes, little-endian) and its bytes. Answers on standard
output: `SAMPLES`, `UNREADABLE` or `TOO_LONG` (1 byte), the size of what follows (8 bytes), and mono float32 samples or a
message in UTF-8. The file has no name on disk where the system can keep it in memory.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from asr.corpus.audio import MAX_AMPLITUDE, probe_audio, read_audio
from asr.errors import InputError

SAMPLES, UNREADABLE, TOO_LONG = b"S", b"U", b"L"
HEAD_BYTES = 9


def main(sample_rate_hz: int, max_duration_s: float, max_bytes: int) -> None:
    """Answer until standard input ends."""
    _limit_memory(max_bytes)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while size := requests.read(8):
        kind, content = read_upload(requests.read(int.from_bytes(size, "little")), sample_rate_hz, max_duration_s)
        answers.write(kind + len(content).to_bytes(8, "little") + content)
        answers.flush()


def read_upload(content: bytes, sample_rate_hz: int, max_duration_s: float) -> tuple[bytes, bytes]:
    """Read the audio of a file with this content: (kind of answer, samples or message)."""
    try:
        with _as_file(content) as path:
            duration_s = probe_audio(path).duration_s
            if duration_s > max_duration_s:
                return TOO_LONG, f"{duration_s:.0f} s of audio, expected at most {max_duration_s:g} s".encode()
            samples = read_audio(path, sample_rate_hz)
            if not (np.abs(samples) <= MAX_AMPLITUDE).all():  # resampling overshoots
                return UNREADABLE, b"a sample is not finite or out of range, expected numbers around 1"
            return SAMPLES, samples.astype("<f4", copy=False).tobytes()
    except InputError as error:
        return UNREADABLE, str(error).removeprefix(f"{path}: ").encode()
    except MemoryError:
        return UNREADABLE, b"needs more memory than allowed, expected a shorter recording"


@contextmanager
def _as_file(content: bytes) -> Iterator[Path]:
    """A file with this content, for libraries that need a path."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("upload")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        yield path


def _limit_memory(max_bytes: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # another system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


def parse_head(head: bytes) -> tuple[bytes, int]:
    """The kind of an answer, and the size of what follows, from its first `HEAD_BYTES`."""
    return head[:1], int.from_bytes(head[1:], "little")


def as_samples(content: bytes) -> np.ndarray:
    """The samples of an answer, (samples,) float32."""
    return np.frombuffer(content, "<f4")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
