"""What stands between a mouth and a file: a room, background noise and a recording channel.

All of it keeps time: the direct sound has no delay and the channel has zero phase, so labels of the clean speech hold.
"""

from dataclasses import dataclass

import numpy as np

NOISES = ("white", "pink", "babble")
SNR_RANGE_DB = (15.0, 35.0)
REVERBERATION_RANGE_S = (0.1, 0.4)
"""Time in which the reverberation falls by 60 dB."""
DIRECT_RANGE_DB = (10.0, 24.0)
"""Energy of the direct sound over that of all reflections."""
FIRST_REFLECTION_S = 0.002
PEAK_RANGE = (0.2, 0.8)
"""Largest sample of a recording, of a full scale of 1: nothing clips."""
TILT_REFERENCE_HZ = 1000.0
BABBLE_KNEE_HZ = 500.0
"""The spectrum of many voices together falls above this frequency."""
BABBLE_RHYTHM_HZ = 4.0
"""How fast the loudness of voices changes."""


@dataclass(frozen=True)
class Channel:
    """A microphone: slope of its response in dB an octave, and where it falls off at either end."""

    tilt_db_per_octave: float
    low_cut_hz: float
    high_cut_hz: float


def random_channel(generator: np.random.Generator) -> Channel:
    """A channel between dull and bright."""
    tilt, low, high = generator.uniform(-2, 2), generator.uniform(40, 150), generator.uniform(5500, 7800)
    return Channel(float(tilt), float(low), float(high))


def record(
    speech: np.ndarray,
    rate_hz: int,
    channel: Channel,
    generator: np.random.Generator,
    snr_range_db: tuple[float, float] = SNR_RANGE_DB,
) -> np.ndarray:
    """Clean speech (samples,) as recorded in a random room with random noise: int16, as long, never clipped."""
    room = _room(rate_hz, generator)
    size = 1 << (len(speech) + len(room)).bit_length()  # no wrapping around
    response = np.fft.rfft(room, size) * _response(channel, np.fft.rfftfreq(size, 1 / rate_hz))
    recorded = np.fft.irfft(np.fft.rfft(speech, size) * response, size)[: len(speech)]
    noise = _noise(str(generator.choice(NOISES)), len(speech), rate_hz, generator)
    snr_db = generator.uniform(*snr_range_db)
    recorded += noise * np.sqrt(np.mean(recorded**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    recorded *= generator.uniform(*PEAK_RANGE) / np.abs(recorded).max()
    return np.round(recorded * 32767).astype(np.int16)


def _room(rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Impulse response (samples,) float64: the direct sound, then noise that decays exponentially."""
    reverberation_s, direct_db = generator.uniform(*REVERBERATION_RANGE_S), generator.uniform(*DIRECT_RANGE_DB)
    times_s = np.arange(round(reverberation_s * rate_hz)) / rate_hz
    tail = generator.standard_normal(len(times_s)) * 10 ** (-3 * times_s / reverberation_s)
    tail[times_s < FIRST_REFLECTION_S] = 0
    response = tail * 10 ** (-direct_db / 20) / np.sqrt(np.sum(tail**2))
    response[0] = 1
    return response


def _response(channel: Channel, frequencies_hz: np.ndarray) -> np.ndarray:
    """Gain of a channel at each frequency, real (zero phase), (frequencies,) float64."""
    octaves = np.log2(np.maximum(frequencies_hz, channel.low_cut_hz) / TILT_REFERENCE_HZ)
    low = 1 / np.sqrt(1 + (channel.low_cut_hz / np.maximum(frequencies_hz, 1.0)) ** 4)
    high = 1 / np.sqrt(1 + (frequencies_hz / channel.high_cut_hz) ** 8)
    return 10 ** (channel.tilt_db_per_octave * octaves / 20) * low * high


def _noise(kind: str, count: int, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of one of `NOISES`, (samples,) float64 of any level."""
    white = generator.standard_normal(count)
    if kind == "white":
        return white
    size = 1 << count.bit_length()
    frequencies_hz = np.fft.rfftfreq(size, 1 / rate_hz)
    if kind == "pink":
        gain = 1 / np.sqrt(np.maximum(frequencies_hz, 20.0))
    else:
        gain = 1 / (1 + (frequencies_hz / BABBLE_KNEE_HZ) ** 2)
    shaped = np.fft.irfft(np.fft.rfft(white, size) * gain, size)[:count]
    if kind == "babble":
        knots = generator.uniform(0.5, 1.5, int(count / rate_hz * BABBLE_RHYTHM_HZ) + 2)
        shaped *= np.interp(np.arange(count) * BABBLE_RHYTHM_HZ / rate_hz, np.arange(len(knots)), knots)
    return shaped
