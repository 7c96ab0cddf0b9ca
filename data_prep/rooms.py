"""Simulate a recording of clean speech: room reverberation, background noise and a microphone channel.

The direct sound has no delay and the channel has zero phase, so phone boundaries of the clean speech remain valid.
"""

from dataclasses import dataclass

import numpy as np

NOISES = ("white", "pink", "babble")

SNR_RANGE_DB = (15.0, 35.0)

REVERBERATION_RANGE_S = (0.1, 0.4)
"""RT60: the time in which the reverberation decays by 60 dB."""

DIRECT_RANGE_DB = (10.0, 24.0)
"""Ratio of the energy of the direct sound to that of all reflections."""

FIRST_REFLECTION_S = 0.002

PEAK_RANGE = (0.2, 0.8)
"""Largest absolute sample of a recording; full scale is 1, so nothing clips."""

TILT_REFERENCE_HZ = 1000.0

BABBLE_KNEE_HZ = 500.0
"""Above this frequency the spectrum of babble falls."""

BABBLE_RHYTHM_HZ = 4.0
"""Modulation rate of the level of babble."""


@dataclass(frozen=True)
class Channel:
    """A microphone channel: tilt in dB per octave and the cut-off frequencies of its high-pass and low-pass."""

    tilt_db_per_octave: float
    low_cut_hz: float
    high_cut_hz: float


def random_channel(generator: np.random.Generator) -> Channel:
    """Draw a channel."""
    tilt, low, high = generator.uniform(-2, 2), generator.uniform(40, 150), generator.uniform(5500, 7800)
    return Channel(float(tilt), float(low), float(high))


def simulate_recording(
    speech: np.ndarray,
    rate_hz: int,
    channel: Channel,
    generator: np.random.Generator,
    snr_range_db: tuple[float, float] = SNR_RANGE_DB,
) -> np.ndarray:
    """Record clean speech (samples,) in a random room with random noise: int16 of the same length, never clipped."""
    room = _draw_room(rate_hz, generator)
    size = 1 << (len(speech) + len(room)).bit_length()  # long enough to avoid circular convolution
    response = np.fft.rfft(room, size) * _channel_gain(channel, np.fft.rfftfreq(size, 1 / rate_hz))
    recorded = np.fft.irfft(np.fft.rfft(speech, size) * response, size)[: len(speech)]
    noise = _make_noise(str(generator.choice(NOISES)), len(speech), rate_hz, generator)
    snr_db = generator.uniform(*snr_range_db)
    recorded += noise * np.sqrt(np.mean(recorded**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    recorded *= generator.uniform(*PEAK_RANGE) / np.abs(recorded).max()
    return np.round(recorded * 32767).astype(np.int16)


def _draw_room(rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Draw a room impulse response, (samples,) float64: direct sound, then exponentially decaying noise."""
    reverberation_s, direct_db = generator.uniform(*REVERBERATION_RANGE_S), generator.uniform(*DIRECT_RANGE_DB)
    times_s = np.arange(round(reverberation_s * rate_hz)) / rate_hz
    tail = generator.standard_normal(len(times_s)) * 10 ** (-3 * times_s / reverberation_s)
    tail[times_s < FIRST_REFLECTION_S] = 0
    response = tail * 10 ** (-direct_db / 20) / np.sqrt(np.sum(tail**2))
    response[0] = 1
    return response


def _channel_gain(channel: Channel, frequencies_hz: np.ndarray) -> np.ndarray:
    """Gain of a channel at each frequency, (frequencies,) float64, real (zero phase)."""
    octaves = np.log2(np.maximum(frequencies_hz, channel.low_cut_hz) / TILT_REFERENCE_HZ)
    low = 1 / np.sqrt(1 + (channel.low_cut_hz / np.maximum(frequencies_hz, 1.0)) ** 4)
    high = 1 / np.sqrt(1 + (frequencies_hz / channel.high_cut_hz) ** 8)
    return 10 ** (channel.tilt_db_per_octave * octaves / 20) * low * high


def _make_noise(kind: str, count: int, rate_hz: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of a kind in `NOISES`, (samples,) float64, at an arbitrary level."""
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
