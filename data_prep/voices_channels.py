"""Ways in which recordings of clean speech get worse: rooms, microphones, noise, clipping, telephones and lossy codecs."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from data_prep.rooms import random_channel, simulate_recording

CLEAN_SHARE = 0.3

ROOM_SHARE, NOISE_SHARE, CLIPPING_SHARE, TELEPHONE_SHARE, CODEC_SHARE = 0.5, 0.7, 0.08, 0.36, 0.25
"""Shares of the recordings that are not clean. Of all recordings, a quarter are telephone speech."""

ROOM_SNR_DB = (50.0, 60.0)
"""Little: other noise follows."""

SNR_RANGE_DB = (0.0, 40.0)

NOISES = ("white", "pink", "babble", "babble", "hum")

BABBLE_VOICES = (3, 7)

CLIPPED_RANGE_DB = (1.0, 12.0)
"""By how much the peaks exceed full scale."""

LEVELS_DB = (-45.0, -8.0, 0.0)
"""Lowest, most frequent and highest peak level, relative to full scale."""

TELEPHONE_RATE_HZ = 8000

TELEPHONE_CODECS = ("", "ULAW", "ALAW", "GSM610")

LOSSY = {"MPEG_LAYER_III": ("MP3", (0.8, 0.98)), "OPUS": ("OGG", (0.9, 1.0)), "VORBIS": ("OGG", (0.8, 1.0))}
"""Codec -> its container and range of libsndfile's compression level, 1 being the worst."""

TRIMMINGS = {"tight": (0.0, 0.02), "close": (0.02, 0.3), "loose": (0.2, 0.7)}
"""Kind of trimming -> range of the seconds before the first and after the last sound."""

FAINT_NOISE_DB = (-75.0, -50.0)
"""Noise before and after the speech, relative to its peak."""

SOUND_THRESHOLD_DB = -50.0
"""A frame has sound above this level, relative to the loudest one."""

FRAME_S = 0.005


@dataclass(frozen=True)
class Degraded:
    """A recording, (samples,) int16, and what was done to it, for example "loose room pink"."""

    samples: np.ndarray
    condition: str


def degrade(speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator) -> Degraded:
    """Record speech (samples,) float in random circumstances. ``babble`` is other speech."""
    kind = str(generator.choice(list(TRIMMINGS)))
    speech = trim(speech, rate_hz, TRIMMINGS[kind], generator)
    done = [kind]
    if generator.random() < CLEAN_SHARE:
        done.append("clean")
    else:
        for step, share in (
            (_add_room, ROOM_SHARE),
            (_add_noise, NOISE_SHARE),
            (_clip, CLIPPING_SHARE),
            (_telephone, TELEPHONE_SHARE),
            (_compress, CODEC_SHARE),
        ):
            if generator.random() < share:
                speech, name = step(speech, rate_hz, babble, generator)
                done.append(name)
    peak = 10 ** (generator.triangular(*LEVELS_DB) / 20)
    speech = speech / max(float(np.abs(speech).max()), 1e-9) * peak
    return Degraded(np.round(speech * 32767).astype(np.int16), " ".join(done))


def trim(speech: np.ndarray, rate_hz: int, range_s: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Cut silence and add faint noise, so that the first and last sound have a drawn distance to the ends."""
    frame = round(FRAME_S * rate_hz)
    energies = np.square(speech[: len(speech) // frame * frame].reshape(-1, frame)).mean(axis=1)
    with_sound = np.flatnonzero(energies > energies.max() * 10 ** (SOUND_THRESHOLD_DB / 10))
    before, after = np.round(generator.uniform(*range_s, size=2) * rate_hz).astype(int)
    sounds = speech[with_sound[0] * frame : (with_sound[-1] + 1) * frame]
    padded = np.pad(sounds, (before, after))
    level = float(np.abs(sounds).max()) * 10 ** (generator.uniform(*FAINT_NOISE_DB) / 20)
    return padded + level * generator.standard_normal(len(padded))


def _add_room(
    speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    """A room and a microphone with its frequency response."""
    recorded = simulate_recording(speech, rate_hz, random_channel(generator), generator, ROOM_SNR_DB)
    return recorded / 32767, "room"


def _add_noise(
    speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    kind = str(generator.choice(NOISES))
    snr_db = generator.uniform(*SNR_RANGE_DB)
    noise = _make_noise(kind, len(speech), rate_hz, babble, generator)
    gain = np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return speech + gain * noise, f"{kind}-{snr_db:.0f}dB"


def _make_noise(kind: str, count: int, rate_hz: int, babble: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise of a kind in `NOISES`, (samples,) float64, at an arbitrary level."""
    if kind == "babble":
        voices = int(generator.integers(BABBLE_VOICES[0], BABBLE_VOICES[1] + 1))
        starts = generator.integers(len(babble), size=voices)
        shifted = [np.take(babble, np.arange(start, start + count), mode="wrap") for start in starts]
        return np.sum(shifted, axis=0) + 1e-6
    if kind == "hum":
        mains_hz = generator.choice([50.0, 60.0])
        times_s = np.arange(count) / rate_hz
        harmonics = range(1, int(generator.integers(3, 12)))
        phases, gains = generator.uniform(0, 2 * np.pi, 12), generator.uniform(0.1, 1, 12)
        return np.sum(
            [gains[h] / h * np.sin(2 * np.pi * h * mains_hz * times_s + phases[h]) for h in harmonics], axis=0
        )
    white = generator.standard_normal(count)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / rate_hz), 20.0)), count)


def _clip(
    speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    gain = 10 ** (generator.uniform(*CLIPPED_RANGE_DB) / 20) / np.abs(speech).max()
    return np.clip(speech * gain, -1, 1), "clipped"


def _telephone(
    speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    """8 kHz, and mostly a codec of telephones."""
    codec = str(generator.choice(TELEPHONE_CODECS))
    narrow = soxr.resample(speech, rate_hz, TELEPHONE_RATE_HZ)
    if codec:
        narrow = _encode(narrow, TELEPHONE_RATE_HZ, "WAV", codec, {})
    return _fit(soxr.resample(narrow, TELEPHONE_RATE_HZ, rate_hz), len(speech)), codec.lower() or "8kHz"


def _compress(
    speech: np.ndarray, rate_hz: int, babble: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, str]:
    codec = str(generator.choice(list(LOSSY)))
    container, levels = LOSSY[codec]
    level = float(generator.uniform(*levels))
    options = {"compression_level": min(level, 0.99)} | ({"bitrate_mode": "CONSTANT"} if container == "MP3" else {})
    return _encode(speech, rate_hz, container, codec, options), codec.lower()


def _encode(
    speech: np.ndarray, rate_hz: int, container: str, codec: str, options: Mapping[str, float | str]
) -> np.ndarray:
    """Encode and decode speech; the result has its length and no delay."""
    file = io.BytesIO()
    scaled = speech / max(float(np.abs(speech).max()), 1e-9) * 0.7
    soundfile.write(file, scaled, rate_hz, format=container, subtype=codec, **options)
    file.seek(0)
    decoded, decoded_rate_hz = soundfile.read(file, dtype="float64")
    if decoded_rate_hz != rate_hz:
        decoded = soxr.resample(decoded, decoded_rate_hz, rate_hz)
    size = 1 << (len(decoded) + len(speech)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(speech, size)), size)
    return _fit(decoded[int(correlation[: size // 4].argmax()) :], len(speech))


def _fit(samples: np.ndarray, count: int) -> np.ndarray:
    return np.pad(samples, (0, max(count - len(samples), 0)))[:count]
