"""Read any audio file as float32 mono samples at the model's sample rate, or raise one clear error.

soundfile (libsndfile) reads WAV, FLAC, OGG, MP3 and NIST SPHERE, whatever the file is called. libsndfile reads truncated
SPHERE and RIFF files short without an error, and accepts files of NaN or zeros only. This module refuses them.

Where a function takes the path of a file, it also takes that of a member of a tar file (see `asr.corpus.tar_members`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from asr.corpus.tar_members import find_member
from asr.errors import InputError

SAMPLE_RATE_HZ = 16_000
"""The sample rate of TIMIT, and of every model whose configuration does not set another."""

BLOCK_S = 30
"""Seconds of mono audio read at once; with several channels, proportionally less."""

SAMPLE_RATE_RANGE_HZ = (1000, 1_000_000)

MAX_DURATION_H = 24
"""Longer than any recording. A header may claim any length, and memory is allocated by it."""

MAX_AMPLITUDE = 2.0**32
"""Largest sample accepted. A floating-point file may hold unscaled integers; the power of louder samples overflows."""

SPHERE_HEADER_BYTES = 1024

MP3_PADDING = 3 * 1152
"""Samples by which an MP3 may end early: its header counts whole frames, and the decoder drops part of the padding."""

RIFF_SIZE_UNKNOWN = (0, 0xFFFFFFFF)
"""RIFF sizes written by streaming programs, which do not know the length in advance."""

FORMATS = "WAV, FLAC, OGG, MP3 or SPHERE"


@dataclass(frozen=True)
class AudioInfo:
    """Sample rate, samples per channel and number of channels, from the header of an audio file."""

    sample_rate_hz: int
    num_samples: int
    channels: int

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate_hz


class _Source(NamedTuple):
    """What soundfile opens: the name of a file, or the bytes of a member of a tar file; their number; the first of them."""

    audio: str | BytesIO
    size: int
    head: bytes


def probe_audio(path: Path) -> AudioInfo:
    """Read sample rate, samples per channel and number of channels from the header alone.

    Raises:
        InputError: the file is missing, empty, not audio, truncated or compressed with shorten, its sample rate or
            duration is implausible, or its name is not UTF-8.
    """
    return _probe(path, _open_source(path))


def _open_source(path: Path) -> _Source:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # neither soundfile nor any table or page could write it
        raise InputError(f"{str(path)!a}: file name that is not UTF-8, expected another name") from error
    if member := find_member(path):
        if member.tar.name.startswith("features."):
            raise InputError(f"{path}: stored features, expected audio")
        content = member.read()
        return _Source(BytesIO(content), len(content), content[:SPHERE_HEADER_BYTES])
    if not path.is_file():
        raise InputError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, expected an audio file")
    try:
        with path.open("rb") as file:
            return _Source(str(path), path.stat().st_size, file.read(SPHERE_HEADER_BYTES))
    except OSError as error:
        raise InputError(f"{path}: not readable as audio ({_reason(error)}), expected {FORMATS}") from error


def _probe(path: Path, source: _Source) -> AudioInfo:
    if source.size == 0:
        raise InputError(f"{path}: empty file (0 bytes), expected audio")
    _check_container(path, source)
    try:
        header = soundfile.info(source.audio)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: not readable as audio ({_reason(error)}), expected {FORMATS}") from error
    if header.frames == 0:
        raise InputError(f"{path}: 0 samples, expected at least 1")
    info = AudioInfo(header.samplerate, header.frames, header.channels)
    lowest, highest = SAMPLE_RATE_RANGE_HZ
    if not lowest <= info.sample_rate_hz <= highest:
        raise InputError(f"{path}: sample rate {info.sample_rate_hz} Hz, expected {lowest} to {highest} Hz")
    if info.duration_s > MAX_DURATION_H * 3600:
        raise InputError(
            f"{path}: {info.duration_s / 3600:.0f} hours according to its header, expected at most {MAX_DURATION_H}"
        )
    return info


def read_audio(
    path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ, start_s: float = 0.0, duration_s: float | None = None
) -> np.ndarray:
    """Read samples, (samples,) float32 in [-1, 1]: channels averaged, resampled to ``sample_rate_hz``.

    ``start_s`` and ``duration_s`` select a part of the file. Without ``duration_s`` the part extends to the end.

    Raises:
        InputError: as `probe_audio`; the file has fewer samples than its header says, a sample is not finite, or all
            samples are zero.
    """
    return np.concatenate(list(read_blocks(path, sample_rate_hz, start_s, duration_s)))


def read_blocks(
    path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ, start_s: float = 0.0, duration_s: float | None = None
) -> Iterator[np.ndarray]:
    """Yield the samples of `read_audio` in blocks of up to `BLOCK_S`, so that memory does not grow with the file."""
    source = _open_source(path)
    info = _probe(path, source)
    start, count = _locate_part(path, info, start_s, duration_s)
    resampler = None
    if info.sample_rate_hz != sample_rate_hz:
        resampler = soxr.ResampleStream(info.sample_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")
    silent, last = True, False
    for position, samples in _read_channel_blocks(path, source, start, count):
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
        if not (valid := np.abs(mono) <= MAX_AMPLITUDE).all():
            index = int(np.argmin(valid))
            raise InputError(f"{path}: sample {position + index} is {mono[index]}, expected finite values around 1")
        silent = silent and not mono.any()
        last = position + len(mono) == start + count
        yield mono if resampler is None else resampler.resample_chunk(mono, last=last)
    if resampler is not None and not last:  # an MP3 that ends in its padding
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if silent:
        raise InputError(f"{path}: all {count} samples are zero, expected a signal")


def read_channels(path: Path, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Read a part of a file as it is: samples (samples, channels) float32, and their rate in Hz.

    Raises:
        InputError: as `read_audio`, but the samples may have any values.
    """
    source = _open_source(path)
    info = _probe(path, source)
    start, count = _locate_part(path, info, start_s, duration_s)
    blocks = [samples for _, samples in _read_channel_blocks(path, source, start, count)]
    return np.concatenate(blocks), info.sample_rate_hz


def _locate_part(path: Path, info: AudioInfo, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """The first sample of a part of a file, and the number of its samples."""
    start = round(start_s * info.sample_rate_hz)
    count = info.num_samples - start if duration_s is None else round(duration_s * info.sample_rate_hz)
    if start + count == info.num_samples + 1:  # start and end lie between samples, and both were rounded up
        count -= 1
    if start < 0 or count < 1 or start + count > info.num_samples:
        part = f"{start_s:g} s to {start_s + (duration_s or 0):g} s"
        raise InputError(f"{path}: {info.duration_s:g} s long, expected to contain {part}")
    return start, count


def _read_channel_blocks(path: Path, source: _Source, start: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``count`` samples of all channels in blocks: (index of its first sample, (samples, channels) float32)."""
    position = start
    if isinstance(source.audio, BytesIO):
        source.audio.seek(0)
    try:
        with soundfile.SoundFile(source.audio) as file:
            file.seek(start)
            while position < start + count:
                block_size = min(BLOCK_S * file.samplerate // file.channels, start + count - position)
                samples = file.read(block_size, dtype="float32", always_2d=True)
                if len(samples) == 0 and file.format == "MP3" and 0 < start + count - position <= MP3_PADDING:
                    return
                if len(samples) == 0:
                    raise InputError(f"{path}: truncated, {position} samples, the header says {file.frames}")
                yield position, samples
                position += len(samples)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: not readable as audio ({_reason(error)}), expected {FORMATS}") from error


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample (samples,) to another rate, float32; unchanged if the rates are equal."""
    if from_hz == to_hz:
        return np.ascontiguousarray(samples, dtype=np.float32)
    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float32)


def _check_container(path: Path, source: _Source) -> None:
    """Refuse files that libsndfile reads short (truncated SPHERE and RIFF) or not at all (shorten)."""
    size, head = source.size, source.head
    if head.startswith(b"NIST_1A"):
        fields = _parse_sphere_header(path, head)
        coding = fields.get("sample_coding", "pcm")
        if "shorten" in coding:
            raise InputError(f"{path}: sample_coding {coding}, expected uncompressed SPHERE (sph2pipe converts it)")
        expected = (
            int(fields.get("sample_count", 0))
            * int(fields.get("channel_count", 1))
            * int(fields.get("sample_n_bytes", 2))
        )
        sample_bytes = size - int(fields["header_bytes"])
        if sample_bytes < expected:
            raise InputError(f"{path}: truncated, {max(sample_bytes, 0)} bytes of samples, its header says {expected}")
    elif head.startswith(b"RIFF") and len(head) >= 8:
        declared = int.from_bytes(head[4:8], "little")
        if declared not in RIFF_SIZE_UNKNOWN and size < declared + 8:
            raise InputError(f"{path}: truncated, {size} bytes, its header says {declared + 8}")


def _parse_sphere_header(path: Path, head: bytes) -> dict[str, str]:
    """Parse the ``name -type value`` lines of a NIST SPHERE header; the header's own size is ``header_bytes``."""
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
    """A library's error message on one line, without the path, which our own message already names."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".")
