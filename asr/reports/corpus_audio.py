"""What can be measured in the audio of an utterance: level, clipping, offset, noise, bandwidth, silence; and short clips.

In:  a file, or a part of one.
Out: `Measures`, or one line that says why the audio cannot be used.

Levels are in dB relative to full scale: a sine of amplitude 1 has -3.01 dB. Samples are measured at the file's own rate.
Powers and spectra are those of frames of 20 ms that do not overlap. The mean of all samples, the offset, counts only there.
"""

import base64
import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import blake2b
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asr.corpus.audio import BLOCK_S, probe_audio, read_audio, read_blocks
from asr.errors import InputError
from asr.system.signals import end_with_parent

FRAME_S = 0.02
MIN_FRAMES = 10
"""Shorter audio has neither a signal-to-noise ratio nor silence at its ends."""

QUANTIZATION = 2.0**-30 / 4
"""The power of the noise of 16 bits with dither, -96 dB: below this, noise does not count."""

NOISE_QUANTILE, LOUD_QUANTILE = 0.1, 0.95
"""A tenth of the frames is at most as loud as the noise; a twentieth is louder than the loud speech."""

MIN_CONTRAST_DB = 6.0
"""Least difference between those two for which noise and speech can be told apart."""

EDGE_DB = -70.0
"""The bandwidth ends where the mean spectrum falls this far below its maximum, for the last time."""

SPEECH_THRESHOLD = 1 / 3
"""Where between the noise and the loud speech, in dB, speech begins: weak fricatives should be above."""

LOWEST_HZ = 50
CLIPPED_RUN = 3
"""So many neighbouring samples at the highest or lowest value of a recording are clipped."""

CLIPPED_TOLERANCE = 1.5 / 2**15
CLIPPED_PEAK = 0.1
"""Recordings that are everywhere quieter are not clipped: with few steps, neighbouring samples are equal by chance."""

MAX_CLIP_S = 5.0
CLIP_RATES_HZ = (8000, 16_000)
CHUNK = 16
"""Utterances that a worker process measures at a time."""


class Part(NamedTuple):
    """A part of an audio file, in seconds."""

    path: Path
    start_s: float
    duration_s: float


class Measures(NamedTuple):
    """What was measured in the audio of one utterance; NaN where it cannot be measured.

    ``clipped`` is a fraction of the samples, ``offset`` the mean of the samples, full scale being 1, ``samples`` a hash.
    """

    rate_hz: int
    channels: int
    level_db: float
    peak_db: float
    clipped: float
    offset: float
    snr_db: float
    bandwidth_hz: float
    start_silence_s: float
    end_silence_s: float
    samples: int


def measure_all(parts: Iterable[Part], jobs: int) -> Iterator[Measures | str]:
    """Measure audio in ``jobs`` processes, in order; the text of the error for audio that cannot be used.

    Only few parts are taken in advance, so that memory does not grow with their number.
    """
    iterator = iter(parts)
    chunks = iter(lambda: list(islice(iterator, CHUNK)), [])
    if jobs == 1:
        for chunk in chunks:
            yield from _measure_chunk(chunk)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=end_with_parent)
    pending: deque[Future[list[Measures | str]]] = deque()
    try:
        pending.extend(pool.submit(_measure_chunk, chunk) for chunk in islice(chunks, 4 * jobs))
        while pending:
            yield from pending.popleft().result()
            pending.extend(pool.submit(_measure_chunk, chunk) for chunk in islice(chunks, 1))
    except BrokenProcessPool as error:
        raise InputError("jobs: a worker process died, expected memory for it: use fewer jobs") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _measure_chunk(parts: Iterable[Part]) -> list[Measures | str]:
    return [_measure_or_say_why(part) for part in parts]


def _measure_or_say_why(part: Part) -> Measures | str:
    try:
        return measure(part)
    except InputError as error:
        return str(error)


def measure(part: Part) -> Measures:
    """Measure the audio of an utterance.

    Raises:
        InputError: it cannot be used, see `asr.corpus.audio.read_blocks`.
    """
    info = probe_audio(part.path)
    rate_hz = info.sample_rate_hz
    frames, clipping, digest = _Frames(round(FRAME_S * rate_hz)), [_Clipping()], blake2b(digest_size=8)
    count, total, squares, peak = 0, 0.0, 0.0, 0.0
    for block in read_blocks(part.path, rate_hz, part.start_s, part.duration_s):
        digest.update(block.tobytes())
        frames.add(block)
        count += len(block)
        total += float(block.sum(dtype=np.float64))
        squares += float(np.square(block, dtype=np.float64).sum())
        peak = max(peak, float(np.abs(block).max()))
        if info.channels == 1:
            clipping[0].add(block)
    if info.channels > 1:
        clipping = _clipping_of_channels(part, rate_hz, info.channels)
    offset = total / count
    start_s, end_s, snr_db = silence_and_noise(np.concatenate(frames.powers) if frames.powers else np.zeros(0))
    return Measures(
        rate_hz,
        info.channels,
        level_db=decibels(squares / count - offset**2),
        peak_db=decibels(peak**2),
        clipped=max(channel.samples for channel in clipping) / count,
        offset=offset,
        snr_db=snr_db,
        bandwidth_hz=frames.bandwidth_hz(rate_hz),
        start_silence_s=start_s,
        end_silence_s=end_s,
        samples=int.from_bytes(digest.digest(), "big", signed=True),
    )


def decibels(power: float) -> float:
    """10 log10 of a power relative to full scale, at least -120 dB."""
    return float(10 * np.log10(max(power, 1e-12)))


def silence_and_noise(powers: np.ndarray) -> tuple[float, float, float]:
    """Silence at the start and the end in seconds, and the signal-to-noise ratio in dB, of frame powers (frames,).

    The noise is the power that a tenth of the frames do not exceed. Frames are speech if they lie above a third of the way,
    in dB, from the noise to the loudest twentieth. The ratio is that of their mean power without noise to the noise.
    """
    if len(powers) < MIN_FRAMES:
        return 0.0, 0.0, float("nan")
    noise, loud = (max(float(power), QUANTIZATION) for power in np.quantile(powers, (NOISE_QUANTILE, LOUD_QUANTILE)))
    if decibels(loud) - decibels(noise) < MIN_CONTRAST_DB:
        return 0.0, 0.0, float("nan")
    speech = powers > noise * (loud / noise) ** SPEECH_THRESHOLD
    snr_db = 10 * np.log10(powers[speech].mean() / noise - 1)
    lasting = np.flatnonzero(speech[:-1] & speech[1:])  # a click is no speech
    if len(lasting) == 0:
        return 0.0, 0.0, float(snr_db)
    return float(lasting[0] * FRAME_S), float((len(powers) - lasting[-1] - 2) * FRAME_S), float(snr_db)


class _Frames:
    """Powers and the sum of the power spectra of frames of ``size`` samples."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rest = np.zeros(0, np.float32)
        self.powers: list[np.ndarray] = []
        self.window = np.hanning(size + 1)[:-1].astype(np.float32)
        self.spectrum = np.zeros(size // 2 + 1)
        self.count = 0

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, (samples,) float32."""
        samples = np.concatenate([self.rest, block])
        whole = len(samples) // self.size
        frames, self.rest = samples[: whole * self.size].reshape(whole, self.size), samples[whole * self.size :]
        if whole:
            centred = frames - frames.mean(1, keepdims=True)
            self.powers.append(np.square(centred, dtype=np.float64).mean(1))
            self.spectrum += np.square(np.abs(np.fft.rfft(centred * self.window, axis=1))).sum(0)
            self.count += whole

    def bandwidth_hz(self, rate_hz: int) -> float:
        """The highest frequency whose mean power is above `EDGE_DB` and the noise of quantization; NaN if none is."""
        if self.count == 0:
            return float("nan")
        step_hz = rate_hz / self.size
        mean = self.spectrum / self.count
        mean[: int(np.ceil(LOWEST_HZ / step_hz))] = 0
        quantization = 4 * QUANTIZATION * float(np.square(self.window).sum())
        above = np.flatnonzero(mean > max(float(mean.max()) * 10 ** (EDGE_DB / 10), quantization))
        return float(above[-1] * step_hz) if len(above) else float("nan")


class _Clipping:
    """Counts the samples in runs of at least `CLIPPED_RUN` at the highest, and at the lowest, value of a channel."""

    def __init__(self) -> None:
        self.counts, self.peaks = [0, 0], [0.0, 0.0]

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, (samples,) float32."""
        for side, values in enumerate((block, -block)):
            peak = float(values.max())
            if peak > self.peaks[side] + CLIPPED_TOLERANCE:
                self.counts[side], self.peaks[side] = 0, peak
            if self.peaks[side] >= CLIPPED_PEAK:
                self.counts[side] += _count_in_runs(values >= self.peaks[side] - CLIPPED_TOLERANCE)

    @property
    def samples(self) -> int:
        """The clipped samples so far."""
        return sum(self.counts)


def _count_in_runs(marked: np.ndarray) -> int:
    """Count the marked samples that are in runs of at least `CLIPPED_RUN`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


def _clipping_of_channels(part: Part, rate_hz: int, channels: int) -> list[_Clipping]:
    """Count clipped samples in each channel: the mean of the channels would hide them."""
    found = [_Clipping() for _ in range(channels)]
    start, count = round(part.start_s * rate_hz), round(part.duration_s * rate_hz)
    size = max(1, BLOCK_S * rate_hz // channels)
    for block in soundfile.blocks(str(part.path), size, frames=count, start=start, dtype="float32", always_2d=True):
        for channel, clipping in enumerate(found):
            clipping.add(block[:, channel])
    return found


def make_clip(part: Part) -> str:
    """The first `MAX_CLIP_S` of an utterance as an MP3 in a data URI, at 8 or 16 kHz.

    Raises:
        InputError: the audio cannot be used.
    """
    low, high = CLIP_RATES_HZ
    rate_hz = low if probe_audio(part.path).sample_rate_hz <= low else high
    samples = read_audio(part.path, rate_hz, part.start_s, min(part.duration_s, MAX_CLIP_S))
    mp3 = io.BytesIO()
    soundfile.write(mp3, samples.clip(-1, 1), rate_hz, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.9)
    return "data:audio/mpeg;base64," + base64.b64encode(mp3.getvalue()).decode()
