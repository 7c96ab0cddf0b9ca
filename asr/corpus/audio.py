"""Any audio file -> float32 mono samples at the model's rate, or one clear error.

soundfile (libsndfile) reads WAV, FLAC, OGG, MP3 and NIST SPHERE, whatever the file is called. What it lets through
silently is checked here: truncated SPHERE and RIFF files read short without an error, and a file of NaN or of
zeros alone is no speech.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.errors import InputError

SAMPLE_RATE_HZ = 16_000
"""The rate of TIMIT, and of every model whose configuration does not say otherwise."""

BLOCK_S = 30
"""Of audio that is read at once; less where there are several channels."""
RATES_HZ = (1000, 1_000_000)
LONGEST_H = 24
"""Far beyond any recording. A header may say any rate and length, and what memory is asked for follows from them."""
LOUDEST = 2.0**32
"""A sample in a file of floating point, whose writer may have taken integers for it; the power of louder ones overflows."""
SPHERE_HEADER_BYTES = 1024
RIFF_SIZE_UNKNOWN = (0, 0xFFFFFFFF)
"""RIFF sizes written by programs that stream, which cannot know the length in advance."""


@dataclass(frozen=True)
class AudioInfo:
    """What a header says of an audio file."""

    sample_rate_hz: int
    num_samples: int
    channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz


def probe_audio(path: Path) -> AudioInfo:
    """Rate, samples per channel and channels, from the header alone.

    Raises:
        InputError: the file is missing, empty, not audio, truncated, compressed with shorten, or of a rate or length that
            no recording has.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, expected an audio file")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: empty file (0 bytes), expected audio")
        with path.open("rb") as file:
            head = file.read(SPHERE_HEADER_BYTES)
        _check_container(path, head)
        header = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: not readable as audio ({_reason(error)}), expected {FORMATS}") from error
    if header.frames == 0:
        raise InputError(f"{path}: 0 samples, expected at least 1")
    info = AudioInfo(header.samplerate, header.frames, header.channels)
    if not RATES_HZ[0] <= info.sample_rate_hz <= RATES_HZ[1]:
        raise InputError(f"{path}: {info.sample_rate_hz} samples a second, expected {RATES_HZ[0]} to {RATES_HZ[1]}")
    if info.duration_s > LONGEST_H * 3600:
        raise InputError(f"{path}: {info.duration_s / 3600:.0f} hours by its header, expected at most {LONGEST_H}")
    return info


def read_audio(
    path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Samples of a file, (samples,) float32 in [-1, 1]: channels averaged, resampled to ``sample_rate_hz``.

    ``start_s`` and ``duration_s`` select a part of the file; without a duration it goes to the end.

    Raises:
        InputError: as `probe_audio`; also where fewer samples can be read than the header says, where a sample is
            not finite, and where all are zero.
    """
    return np.concatenate(list(read_blocks(path, sample_rate_hz, start_s, duration_s)))


def read_blocks(
    path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ, start_s: float = 0.0, duration_s: float | None = None
) -> Iterator[np.ndarray]:
    """What `read_audio` gives, in pieces of half a minute, so that memory does not grow with the file."""
    info = probe_audio(path)
    start = round(start_s * info.sample_rate_hz)
    count = info.num_samples - start if duration_s is None else round(duration_s * info.sample_rate_hz)
    if start < 0 or count < 1 or start + count > info.num_samples:
        wanted = f"{start_s:g} s to {start_s + (duration_s or 0):g} s"
        raise InputError(f"{path}: {info.duration_s:g} s long, expected to hold {wanted}")
    stream = None
    if info.sample_rate_hz != sample_rate_hz:
        stream = soxr.ResampleStream(info.sample_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    silent = True
    for read, mono in _mono_blocks(path, start, count):
        if not (usable := np.abs(mono) <= LOUDEST).all():
            index = int(np.argmin(usable))
            raise InputError(f"{path}: sample {read + index} is {mono[index]}, expected finite numbers around 1")
        silent = silent and not mono.any()
        last = read + len(mono) == start + count
        yield mono if stream is None else stream.resample_chunk(mono, last=last)
    if silent:
        raise InputError(f"{path}: all {count} samples are zero, expected a signal")


def _mono_blocks(path: Path, start: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """The channels' mean of ``count`` samples, in pieces, each with the number of its first sample."""
    read = start
    try:
        with soundfile.SoundFile(str(path)) as file:
            file.seek(start)
            while read < start + count:
                wanted = min(BLOCK_S * file.samplerate // file.channels, start + count - read)
                samples = file.read(wanted, dtype="float32", always_2d=True)
                if len(samples) == 0:
                    raise InputError(f"{path}: truncated, {read} samples, the header says {file.frames}")
                yield read, samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
                read += len(samples)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: not readable as audio ({_reason(error)}), expected {FORMATS}") from error


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Samples at another rate, float32 (samples,); as they are where the rates agree."""
    if from_hz == to_hz:
        return np.ascontiguousarray(samples, dtype=np.float32)
    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float32)


FORMATS = "WAV, FLAC, OGG, MP3 or SPHERE"


def _check_container(path: Path, head: bytes) -> None:
    """Refuse what libsndfile would read short (truncated SPHERE and RIFF) or not at all (shorten)."""
    size = path.stat().st_size
    if head.startswith(b"NIST_1A"):
        fields = _sphere_fields(path, head)
        coding = fields.get("sample_coding", "pcm")
        if "shorten" in coding:
            raise InputError(f"{path}: sample_coding {coding}, expected uncompressed SPHERE (sph2pipe converts it)")
        expected = (
            int(fields.get("sample_count", 0))
            * int(fields.get("channel_count", 1))
            * int(fields.get("sample_n_bytes", 2))
        )
        found = size - int(fields["header_bytes"])
        if found < expected:
            raise InputError(f"{path}: truncated, {max(found, 0)} bytes of samples, its header says {expected}")
    elif head.startswith(b"RIFF") and len(head) >= 8:
        declared = int.from_bytes(head[4:8], "little")
        if declared not in RIFF_SIZE_UNKNOWN and size < declared + 8:
            raise InputError(f"{path}: truncated, {size} bytes, its header says {declared + 8}")


def _sphere_fields(path: Path, head: bytes) -> dict[str, str]:
    """The ``name -type value`` lines of a NIST SPHERE header, and its own size as ``header_bytes``."""
    lines = head.decode("latin-1").split("\n")
    fields = {"header_bytes": lines[1].strip() if len(lines) > 1 else ""}
    for line in lines[2:]:
        if line.strip() == "end_head":
            break
        name, _, value = [*line.split(maxsplit=2), "", "", ""][:3]
        fields[name] = value.strip()
    for name in ("header_bytes", "sample_count", "channel_count", "sample_n_bytes"):
        if name in fields and not fields[name].isdecimal():
            raise InputError(f"{path}: SPHERE header field {name} is {fields[name]!r}, expected a whole number")
    return fields


def _reason(error: Exception) -> str:
    """What a library says, on one line and without the path that our own message already names."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".")
