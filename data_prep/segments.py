"""espeak-ng's phoneme events -> TIMIT's 61 phones with boundaries in samples.

An event names a phoneme and its first sample. This sample is exact, but not always where a transcriber would put the
boundary. Corrections:

- closures have no event: a run of digital zeros at the end of a segment becomes one;
- a voiced stop or affricate without such a run contains closure and burst: it is split at the largest jump of
  high-frequency energy;
- the event of a vowel after a nasal, liquid or glide is 10 to 20 ms late: its start moves to the spectral change;
- some vowels are two TIMIT phones, and the event of an ``l`` may come at its end: such a segment is split at its
  largest spectral change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.errors import InputError
from data_prep.espeak import Speech, has_sound

MIN_SEGMENT_MS = 5.0

MIN_GAP_MS = 15.0
"""A shorter silence is labelled only before a stop, as its closure."""

ZERO_RUN_MS = 4.0
"""Shorter runs of digital zeros are zero crossings of the waveform."""

HOP_MS = 1.0
WINDOW_MS = 10.0
BANDS = 20

FLOOR_POWER = 1e-2
"""Floor of the power of a band in a window, about 30 dB below speech: digital silence then counts as a quiet room."""

CHANGE_MS = 8
"""The spectral change at a point compares this many milliseconds before and after it."""

BURST_MS = 6
"""The jump of energy at a burst compares up to this many milliseconds before and after it."""

SNAP_BEFORE_MS, SNAP_AFTER_MS = 30, 5
"""Range in which the start of a vowel may move."""

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
"""espeak-ng's mnemonics of American English, without stress marks -> TIMIT phones."""


@dataclass(frozen=True)
class Segment:
    """A phone from sample ``start`` to ``end`` (exclusive); ``word`` is the index of its word, -1 in silence."""

    start: int
    end: int
    phone: str
    word: int = -1


@dataclass
class _Span:
    """A preliminary segment of one or more phones, which extends to the next span."""

    start: int
    phones: tuple[str, ...]
    word: int


def label_phones(speech: Speech) -> list[Segment]:
    """Label clean speech with phones: contiguous, from the first sample to the last, each at least 5 ms long.

    Raises:
        InputError: an espeak-ng phoneme has no TIMIT phone.
    """
    spans = _insert_closures(_make_spans(speech), speech)
    spans = _snap_vowel_starts(_split_spans(spans, speech), speech)
    spans[0].phones = spans[-1].phones = (SILENCE,)
    min_length = round(MIN_SEGMENT_MS * speech.sample_rate_hz / 1000)
    starts = enforce_min_length([span.start for span in spans], len(speech.samples), min_length)
    ends = [*starts[1:], len(speech.samples)]
    return [
        Segment(start, end, span.phones[0], span.word) for start, end, span in zip(starts, ends, spans, strict=True)
    ]


def _make_spans(speech: Speech) -> list[_Span]:
    """Make spans of phoneme events, silence first and last. Pauses are merged; soundless phones join the previous span."""
    spans = [_Span(0, (PAUSE,), -1)]
    ends = [phoneme.start for phoneme in speech.phonemes[1:]] + [len(speech.samples)]
    transition = None
    for phoneme, end in zip(speech.phonemes, ends, strict=True):
        mnemonic = phoneme.name.lstrip("',=%")
        if not has_sound(mnemonic):
            if mnemonic == ";":  # joins the next vowel
                transition = phoneme.start
            elif spans[-1].phones != (PAUSE,):
                spans.append(_Span(phoneme.start, (PAUSE,), -1))
            continue
        if mnemonic not in TIMIT_PHONES:
            raise InputError(f"espeak-ng phoneme {phoneme.name!r} has no TIMIT phone, expected those of version 1.52")
        phones = TIMIT_PHONES[mnemonic]
        soundless = zero_run_before(speech.samples, phoneme.start, end) >= end - phoneme.start - 1
        if soundless and phones != ("q",) and spans[-1].word == phoneme.word:
            spans[-1].phones += phones
        else:
            spans.append(_Span(phoneme.start if transition is None else transition, phones, phoneme.word))
        transition = None
    return spans


def _insert_closures(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Insert the closures of stops, and extend pauses and glottal stops by the silence before them."""
    per_ms = speech.sample_rate_hz / 1000
    result = [spans[0]]
    for span, end in zip(spans[1:], [*(following.start for following in spans[2:]), len(speech.samples)], strict=True):
        previous, phone = result[-1], span.phones[0]
        gap = zero_run_before(speech.samples, previous.start, span.start)
        after_silence = previous.phones[-1] in (PAUSE, "q")
        if gap < ZERO_RUN_MS * per_ms or after_silence:
            gap = 0
        if phone in CLOSURES and gap:
            result.append(_Span(span.start - gap, (CLOSURES[phone],), span.word))
        elif phone in VOICED_STOPS and not after_silence:
            burst = _find_burst(speech, span.start, end)
            result.append(_Span(span.start, (CLOSURES[phone],), span.word))
            span.start = burst
        elif phone in (PAUSE, "q"):
            span.start -= gap
        elif gap >= MIN_GAP_MS * per_ms:
            result.append(_Span(span.start - gap, (EPENTHETIC,), span.word))
        result.append(span)
    return result


def zero_run_before(samples: np.ndarray, start: int, end: int) -> int:
    """Length of the run of zeros that ends at ``end`` (to within a sample) and begins at or after ``start``."""
    nonzero = np.flatnonzero(samples[start : max(end - 1, start)])
    return end - start if len(nonzero) == 0 else end - start - 1 - int(nonzero[-1])


def _find_burst(speech: Speech, start: int, end: int) -> int:
    """Find the release of a stop: the largest jump of high-frequency energy between two samples."""
    hop = round(HOP_MS * speech.sample_rate_hz / 1000)
    high = np.diff(speech.samples[max(start - 2, 0) : end], n=2)[: (end - start) // hop * hop]
    level_db = 10 * np.log10(np.square(high).reshape(-1, hop).sum(axis=1) + 1e-9)
    reach = max(min(BURST_MS, len(level_db) // 3), 1)
    means = np.convolve(level_db, np.ones(reach) / reach, mode="valid")
    jumps = means[reach:] - means[:-reach]
    return start + (reach + int(np.argmax(jumps))) * hop if len(jumps) else start


def _split_spans(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Split spans of several phones at their largest spectral changes."""
    result = []
    for span, end in zip(spans, [*(following.start for following in spans[1:]), len(speech.samples)], strict=True):
        start, phones = span.start, span.phones
        while len(phones) > 1:
            result.append(_Span(start, phones[:1], span.word))
            start, phones = find_best_split(speech, start, end), phones[1:]
        result.append(_Span(start, phones, span.word))
    return result


def find_best_split(speech: Speech, start: int, end: int) -> int:
    """Find the sample that splits a section best into two of constant spectrum, in the least-squares sense."""
    frames = band_energies_db(speech, start, end)
    count = len(frames)
    before = np.arange(1, count)[:, None]
    sums = np.cumsum(frames - frames.mean(axis=0), axis=0)[:-1]
    gain = (sums**2 * count / (before * (count - before))).sum(axis=1)
    edge = count // 5
    return start + round((edge + 1 + int(np.argmax(gain[edge : count - 1 - edge]))) * (end - start) / count)


def _snap_vowel_starts(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Move the start of each vowel after a sonorant, in place."""
    for previous, span in pairwise(spans):
        if previous.phones[0] in SONORANTS and span.phones[0] in VOWELS:
            span.start = snap_vowel_start(speech, previous.start, span.start)
    return spans


def snap_vowel_start(speech: Speech, previous: int, start: int) -> int:
    """Move the start of a vowel to the largest spectral change nearby, after the start ``previous`` of a sonorant."""
    per_ms = speech.sample_rate_hz / 1000
    first = max(start - round(SNAP_BEFORE_MS * per_ms), previous + round(CHANGE_MS * per_ms))
    if first >= start:
        return start
    change = spectral_change(speech, first, start + round(SNAP_AFTER_MS * per_ms))
    return first + round(int(np.argmax(change)) * HOP_MS * per_ms)


def band_energies_db(speech: Speech, start: int, end: int) -> np.ndarray:
    """Band energies in dB, (milliseconds, bands) float64, of windows centred on each millisecond of a section."""
    per_ms = speech.sample_rate_hz / 1000
    centres = start + np.round(np.arange(max(int((end - start) / per_ms / HOP_MS), 2)) * HOP_MS * per_ms).astype(int)
    width = round(WINDOW_MS * per_ms)
    padded = np.pad(speech.samples, width)
    windows = padded[centres[:, None] + np.arange(width) + width - width // 2] * np.hanning(width)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    # Like the ear's, the bands widen with frequency.
    edges = np.unique(np.geomspace(2, power.shape[1], BANDS + 1).astype(int) - 2)
    return 10 * np.log10(np.add.reduceat(power, edges[:-1], axis=1) + FLOOR_POWER)


def spectral_change(speech: Speech, start: int, end: int) -> np.ndarray:
    """Distance in dB between the spectra before and after each millisecond of a section, (milliseconds,) float64."""
    reach = round(CHANGE_MS * HOP_MS * speech.sample_rate_hz / 1000)
    frames = band_energies_db(speech, start - reach, end + reach)
    totals = np.cumsum(np.pad(frames, ((1, 0), (0, 0))), axis=0)
    means = (totals[CHANGE_MS:] - totals[:-CHANGE_MS]) / CHANGE_MS
    return np.sqrt(np.square(means[CHANGE_MS:] - means[:-CHANGE_MS]).mean(axis=1))


def enforce_min_length(starts: Sequence[int], length: int, min_length: int) -> list[int]:
    """Move starts as little as necessary, so that every segment has ``min_length`` of the ``length`` samples."""
    moved = list(starts)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + min_length)
    for index in range(len(moved) - 1, 0, -1):
        moved[index] = min(moved[index], length - min_length * (len(moved) - index))
    return moved
