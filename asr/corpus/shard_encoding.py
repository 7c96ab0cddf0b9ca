"""An utterance as a member of a shard: FLAC, Opus or stored features, with the Lhotse manifest that describes it.

FLAC keeps the samples of an utterance, its sample rate and its channels. 16-bit samples take 16 bits and others 24, which
rounds those of floating-point files and of lossy codecs by at most 2^-24 of full scale. Samples that 24 bits do not hold,
because they are louder than full scale or not finite, become a WAV file of floats. Rates and channels that FLAC does not
hold (more than 8 channels, say) become a WAV file of the same bits. The same input gives the same bytes.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from asr.corpus.audio import read_audio, read_channels, resample
from asr.corpus.cuts import Utterance
from asr.corpus.stored_features import compress_features
from asr.errors import InputError

OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
OPUS_CHANNELS = 255
OPUS_BITS = 32_000
"""Bits a second and channel of Opus."""
OPUS_BITS_RANGE = (6_000, 256_000)
"""What libsndfile's compression levels 1 and 0 stand for."""

OGG_SERIAL, OGG_CHECKSUM, OGG_SEGMENTS = slice(14, 18), slice(22, 26), 26
"""Places in the header of an Ogg page (RFC 3533)."""
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class StoredFeatures:
    """How to compute the features to store.

    ``settings`` describe them: those of a `FeatureConfig` as a mapping. ``extract`` maps samples (samples,) float32 at
    ``sample_rate_hz`` to features (frames, dim) float32; worker processes receive it by pickling.
    """

    settings: dict[str, Any]
    sample_rate_hz: int
    extract: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Member:
    """The data of an utterance, the suffix of its name, and the field of the cut that describes it."""

    content: bytes
    suffix: str
    manifest: dict[str, Any]


def encode_audio(utterance: Utterance, content: str) -> Member:
    """Encode the audio of an utterance as ``flac`` or ``opus``.

    Raises:
        InputError: the audio cannot be read, or not be encoded.
    """
    samples, rate_hz = read_channels(utterance.audio_path, utterance.start_s, utterance.duration_s)
    found = f"{utterance.audio_path}: {samples.shape[1]} channels at {rate_hz} Hz"
    if content == "opus" and samples.shape[1] > OPUS_CHANNELS:
        raise InputError(f"{found}, expected at most {OPUS_CHANNELS} channels for opus; flac keeps any")
    try:
        if content == "opus":
            samples, rate_hz = _at_opus_rate(samples, rate_hz)
            encoded, suffix = _encode_opus(samples, rate_hz), "opus"
        else:
            encoded, suffix = _encode_exactly(samples, rate_hz)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{found}: {error.error_string.rstrip('.')}, expected what {content} can hold") from error
    channels = list(range(samples.shape[1]))
    recording = {
        "id": utterance.id,
        "sources": [{"type": "shar", "channels": channels, "source": ""}],
        "sampling_rate": rate_hz,
        "num_samples": len(samples),
        "duration": len(samples) / rate_hz,
        "channel_ids": channels,
    }
    return Member(encoded, suffix, recording)


def encode_features(utterance: Utterance, stored: StoredFeatures) -> Member:
    """Compute and compress the features of an utterance.

    Raises:
        InputError: the audio cannot be read, or has no frame.
    """
    rate_hz, audio = stored.sample_rate_hz, utterance.audio_path
    features = stored.extract(read_audio(audio, rate_hz, utterance.start_s, utterance.duration_s))
    if len(features) == 0:
        raise InputError(f"{audio}: {utterance.duration_s:g} s, expected at least one frame")
    manifest = {
        "type": stored.settings["name"],
        "num_frames": features.shape[0],
        "num_features": features.shape[1],
        "frame_shift": stored.settings["frame_shift_ms"] / 1000,
        "sampling_rate": rate_hz,
        "start": 0,
        "duration": utterance.duration_s,
        "storage_type": "shar",
        "storage_path": "",
        "storage_key": "",
        "recording_id": utterance.id,
        "channels": 0,
    }
    return Member(compress_features(features), "llc", manifest)


def _encode_exactly(samples: np.ndarray, rate_hz: int) -> tuple[bytes, str]:
    """Samples (samples, channels) float32 as FLAC of 16 or 24 bits, else as WAV: content and suffix."""
    for bits in (16, 24):
        scaled = samples.astype(np.float64) * 2 ** (bits - 1)
        whole = np.rint(scaled)
        limit = 2 ** (bits - 1)
        if ((whole >= -limit) & (whole < limit)).all() and (bits == 24 or (whole == scaled).all()):
            integers = (whole * 2 ** (32 - bits)).astype(np.int32)  # soundfile takes the upper bits
            try:
                return _write(integers, rate_hz, "FLAC", f"PCM_{bits}"), "flac"
            except soundfile.LibsndfileError:  # FLAC does not have this rate, or so many channels
                return _write(integers, rate_hz, "WAV", f"PCM_{bits}"), "wav"
    return _write(samples, rate_hz, "WAV", "FLOAT"), "wav"


def _write(samples: np.ndarray, rate_hz: int, container: str, subtype: str, level: float | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype, compression_level=level)
    return file.getvalue()


def _at_opus_rate(samples: np.ndarray, rate_hz: int) -> tuple[np.ndarray, int]:
    """Resample (samples, channels) to the next rate of Opus, unless it has that rate."""
    new_hz = next((rate for rate in OPUS_RATES_HZ if rate >= rate_hz), OPUS_RATES_HZ[-1])
    if new_hz == rate_hz:
        return samples, rate_hz
    resampled, count = resample(samples, rate_hz, new_hz), round(len(samples) / rate_hz * new_hz)
    return np.pad(resampled[:count], ((0, max(0, count - len(resampled))), (0, 0))), new_hz


def _encode_opus(samples: np.ndarray, rate_hz: int) -> bytes:
    lowest, highest = OPUS_BITS_RANGE
    level = 1 - (OPUS_BITS - lowest) / (highest - lowest)
    return _number_stream(_write(samples, rate_hz, "OGG", "OPUS", level))


def _number_stream(content: bytes) -> bytes:
    """Replace the random serial number of an Ogg stream by 0, so that the same audio gives the same bytes."""
    pages, start = bytearray(content), 0
    while start < len(pages):
        segments = pages[start + OGG_SEGMENTS]
        body = start + OGG_SEGMENTS + 1 + segments
        end = body + sum(pages[body - segments : body])
        page = pages[start:end]
        page[OGG_SERIAL] = page[OGG_CHECKSUM] = bytes(4)
        page[OGG_CHECKSUM] = _ogg_checksum(page).to_bytes(4, "little")
        pages[start:end] = page
        start = end
    return bytes(pages)


def _ogg_checksum(page: bytearray) -> int:
    """The CRC-32 of Ogg, which takes the bits in the other order than zlib's, from 0 on, and does not invert the result."""
    reflected = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
