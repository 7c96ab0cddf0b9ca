"""espeak-ng's phoneme events -> TIMIT's 61 phones with their boundaries, in samples.

The events name phonemes, and their places are exact to the sample but not always where a transcriber would put them:

- closures have no event: the run of digital zeros that ends a segment is one;
- a voiced stop or affricate without such a run holds its closure and its burst: it is split at the jump in energy at
  high frequencies;
- a vowel after a nasal, a liquid or a glide is announced 10 to 20 ms late: its start is moved to
  the change in the spectrum;
- some vowels are two of TIMIT's phones, and an ``l`` may be announced when it is over: such a segment is split where
  its spectrum changes most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.errors import InputError
from data_prep.espeak import Speech, is_spoken

MIN_SEGMENT_MS = 5.0
MIN_GAP_MS = 15.0
"""A shorter silence is marked only before a stop, as its closure."""
ZERO_RUN_MS = 4.0
"""Shorter runs of digital zeros are the waveform passing zero."""

HOP_MS = 1.0
WINDOW_MS = 10.0
BANDS = 20
FLOOR_POWER = 1e-2
"""Of a band in a window: about 30 dB below speech, so that digital silence is no further away than a quiet room."""
CHANGE_MS = 8
"""The spectra of so many milliseconds before and after a point are compared to see a change at it."""
BURST_MS = 6
SNAP_BEFORE_MS, SNAP_AFTER_MS = 30, 5

PAUSE, EPENTHETIC, SILENCE = "pau", "epi", "h#"
SONORANTS = ("m", "n", "ng", "en", "l", "el", "r", "w", "y")
CLOSURES = {"p": "pcl", "t": "tcl", "k": "kcl", "b": "bcl", "d": "dcl", "g": "gcl", "ch": "tcl", "jh": "dcl"}
VOICED_STOPS = ("b", "d", "g", "jh")
VOWELS = frozenset(("iy", "ih", "ix", "eh", "ae", "ax", "ah", "ax-h", "aa", "ao", "uh", "uw"))
VOWELS |= {"ey", "ay", "oy", "aw", "ow", "er", "axr"}

TIMIT_PHONES: dict[str, tuple[str, ...]] = {
    mnemonic: tuple(phones.split())
    for phones, mnemonics in {
        "iy": "i: i", "ih": "I I2", "ix": "I#", "eh": "E", "ae": "a aa", "ax": "@ @2 a#", "ah": "V", "ax-h": "@-",
        "aa": "0 A:", "ao": "O: O O2", "uh": "U", "uw": "u: u", "ey": "eI e", "ay": "aI", "oy": "OI", "aw": "aU",
        "ow": "oU", "er": "3:", "axr": "3", "aa r": "A@", "ao r": "O@ o@", "eh r": "e@", "ih r": "i@3", "uh r": "U@",
        "iy ax": "i@", "ay ax": "aI@", "ay axr": "aI3", "aw axr": "aU@", "el": "@L", "en": "n-", "dx": "t#", "q": "?",
        "t": "t t2", "ch": "tS", "jh": "dZ", "th": "T", "dh": "D", "sh": "S", "zh": "Z", "hh": "h", "ng": "N", "y": "j",
        "k": "k x", "r": "r r- r/", "b": "b", "d": "d", "f": "f", "g": "g", "l": "l", "m": "m", "n": "n", "p": "p",
        "s": "s", "v": "v", "w": "w", "z": "z",
    }.items()
    for mnemonic in mnemonics.split()
}  # fmt: skip
"""espeak-ng's mnemonics of American English, without stress marks -> phones of TIMIT."""


@dataclass(frozen=True)
class Segment:
    """One phone from sample ``start`` up to, not including, ``end``; ``word`` is its word's index, -1 in silence."""

    start: int
    end: int
    phone: str
    word: int = -1


@dataclass
class _Span:
    """A segment in the making: one or more phones between two samples, to be split later."""

    start: int
    phones: tuple[str, ...]
    word: int


def label(speech: Speech) -> list[Segment]:
    """The phones of clean speech: contiguous, from its first sample to its last, each at least 5 ms long.

    Raises:
        InputError: espeak-ng used a phoneme that has no phone of TIMIT.
    """
    spans = _with_closures(_spans(speech), speech)
    spans = _snapped(_split(spans, speech), speech)
    spans[0].phones = spans[-1].phones = (SILENCE,)
    shortest = round(MIN_SEGMENT_MS * speech.sample_rate_hz / 1000)
    starts = _spread([span.start for span in spans], len(speech.samples), shortest)
    ends = [*starts[1:], len(speech.samples)]
    return [
        Segment(start, end, span.phones[0], span.word) for start, end, span in zip(starts, ends, spans, strict=True)
    ]


def _spans(speech: Speech) -> list[_Span]:
    """Phoneme events as spans, silence first and last; pauses are joined, and what has no sound joins the last span."""
    spans = [_Span(0, (PAUSE,), -1)]
    ends = [phoneme.start for phoneme in speech.phonemes[1:]] + [len(speech.samples)]
    transition = None
    for phoneme, end in zip(speech.phonemes, ends, strict=True):
        mnemonic = phoneme.name.lstrip("',=%")
        if not is_spoken(mnemonic):
            if mnemonic == ";":  # joins the next vowel
                transition = phoneme.start
            elif spans[-1].phones != (PAUSE,):
                spans.append(_Span(phoneme.start, (PAUSE,), -1))
            continue
        if mnemonic not in TIMIT_PHONES:
            raise InputError(f"espeak-ng phoneme {phoneme.name!r} has no TIMIT phone, expected those of version 1.52")
        phones = TIMIT_PHONES[mnemonic]
        soundless = _zeros_before(speech.samples, phoneme.start, end) >= end - phoneme.start - 1
        if soundless and phones != ("q",) and spans[-1].word == phoneme.word:
            spans[-1].phones += phones
        else:
            spans.append(_Span(phoneme.start if transition is None else transition, phones, phoneme.word))
        transition = None
    return spans


def _with_closures(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Give stops their closures, and pauses and glottal stops the silence before them."""
    per_ms = speech.sample_rate_hz / 1000
    result = [spans[0]]
    for span, end in zip(spans[1:], [*(later.start for later in spans[2:]), len(speech.samples)], strict=True):
        before, phone = result[-1], span.phones[0]
        gap = _zeros_before(speech.samples, before.start, span.start)
        silent_before = before.phones[-1] in (PAUSE, "q")
        if gap < ZERO_RUN_MS * per_ms or silent_before:
            gap = 0
        if phone in CLOSURES and gap:
            result.append(_Span(span.start - gap, (CLOSURES[phone],), span.word))
        elif phone in VOICED_STOPS and not silent_before:
            burst = _burst(speech, span.start, end)
            result.append(_Span(span.start, (CLOSURES[phone],), span.word))
            span.start = burst
        elif phone in (PAUSE, "q"):
            span.start -= gap
        elif gap >= MIN_GAP_MS * per_ms:
            result.append(_Span(span.start - gap, (EPENTHETIC,), span.word))
        result.append(span)
    return result


def _zeros_before(samples: np.ndarray, start: int, end: int) -> int:
    """Length of the run of zeros from ``start`` or later that ends at ``end``, give or take a sample."""
    nonzero = np.flatnonzero(samples[start : max(end - 1, start)])
    return end - start if len(nonzero) == 0 else end - start - 1 - int(nonzero[-1])


def _burst(speech: Speech, start: int, end: int) -> int:
    """Sample at which the energy at high frequencies jumps most between ``start`` and ``end``: a stop's release."""
    hop = round(HOP_MS * speech.sample_rate_hz / 1000)
    high = np.diff(speech.samples[max(start - 2, 0) : end], n=2)[: (end - start) // hop * hop]
    level_db = 10 * np.log10(np.square(high).reshape(-1, hop).sum(axis=1) + 1e-9)
    reach = max(min(BURST_MS, len(level_db) // 3), 1)
    means = np.convolve(level_db, np.ones(reach) / reach, mode="valid")
    jumps = means[reach:] - means[:-reach]
    return start + (reach + int(np.argmax(jumps))) * hop if len(jumps) else start


def _split(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Spans of several phones cut where their spectrum changes most."""
    result = []
    for span, end in zip(spans, [*(later.start for later in spans[1:]), len(speech.samples)], strict=True):
        start, phones = span.start, span.phones
        while len(phones) > 1:
            result.append(_Span(start, phones[:1], span.word))
            start, phones = _best_break(speech, start, end), phones[1:]
        result.append(_Span(start, phones, span.word))
    return result


def _best_break(speech: Speech, start: int, end: int) -> int:
    """The sample that best parts a stretch into two of constant spectrum, in the sense of least squares."""
    frames = log_bands(speech, start, end)
    count = len(frames)
    before = np.arange(1, count)[:, None]
    sums = np.cumsum(frames - frames.mean(axis=0), axis=0)[:-1]
    gain = (sums**2 * count / (before * (count - before))).sum(axis=1)
    edge = count // 5
    return start + round((edge + 1 + int(np.argmax(gain[edge : count - 1 - edge]))) * (end - start) / count)


def _snapped(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Move the start of a vowel after a sonorant to the largest change of the spectrum nearby."""
    per_ms = speech.sample_rate_hz / 1000
    for before, span in pairwise(spans):
        if before.phones[0] in SONORANTS and span.phones[0] in VOWELS:
            first = max(span.start - round(SNAP_BEFORE_MS * per_ms), before.start + round(CHANGE_MS * per_ms))
            last = span.start + round(SNAP_AFTER_MS * per_ms)
            if first < span.start:
                change = spectral_change(speech, first, last)
                span.start = first + round(int(np.argmax(change)) * HOP_MS * per_ms)
    return spans


def log_bands(speech: Speech, start: int, end: int) -> np.ndarray:
    """Energy in bands, (milliseconds, bands) float64 in dB, of windows centred on each millisecond of a stretch."""
    per_ms = speech.sample_rate_hz / 1000
    centres = start + np.round(np.arange(max(int((end - start) / per_ms / HOP_MS), 2)) * HOP_MS * per_ms).astype(int)
    width = round(WINDOW_MS * per_ms)
    padded = np.pad(speech.samples, width)
    windows = padded[centres[:, None] + np.arange(width) + width - width // 2] * np.hanning(width)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    # Bands narrow at low frequencies and wide at high ones, as the ear's are.
    edges = np.unique(np.geomspace(2, power.shape[1], BANDS + 1).astype(int) - 2)
    return 10 * np.log10(np.add.reduceat(power, edges[:-1], axis=1) + FLOOR_POWER)


def spectral_change(speech: Speech, start: int, end: int) -> np.ndarray:
    """Distance in dB between the spectra just before and just after each millisecond of a stretch, (milliseconds,)."""
    reach = round(CHANGE_MS * HOP_MS * speech.sample_rate_hz / 1000)
    frames = log_bands(speech, start - reach, end + reach)
    totals = np.cumsum(np.pad(frames, ((1, 0), (0, 0))), axis=0)
    means = (totals[CHANGE_MS:] - totals[:-CHANGE_MS]) / CHANGE_MS
    return np.sqrt(np.square(means[CHANGE_MS:] - means[:-CHANGE_MS]).mean(axis=1))


def _spread(starts: Sequence[int], length: int, shortest: int) -> list[int]:
    """Starts moved as little as it takes for every segment of ``length`` samples to have at least ``shortest``."""
    spread = list(starts)
    for index in range(1, len(spread)):
        spread[index] = max(spread[index], spread[index - 1] + shortest)
    for index in range(len(spread) - 1, 0, -1):
        spread[index] = min(spread[index], length - shortest * (len(spread) - index))
    return spread
