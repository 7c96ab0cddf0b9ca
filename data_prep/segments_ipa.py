"""espeak-ng's phoneme events in any language -> phones in IPA with boundaries in samples.

Boundaries are those of the events, with the corrections of `data_prep.segments` that fit every language: a stop begins with
its closure, and a vowel after a sonorant at the spectral change. Pauses are segments without a phone.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from asr.corpus.notation import manner
from data_prep.espeak import Speech, Transcription
from data_prep.espeak_ipa import STRESS, is_sound, phones_of
from data_prep.segments import (
    MIN_SEGMENT_MS,
    ZERO_RUN_MS,
    Segment,
    enforce_min_length,
    find_best_split,
    snap_vowel_start,
    zero_run_before,
)

PAUSE = ""
"""Phone of a segment without speech."""

STOPS = ("stops", "affricates", "implosives")
SONORANTS = ("approximants", "laterals", "nasals", "trills", "flaps")
VOWELS = ("front vowels", "central vowels", "back vowels", "diphthongs")


@dataclass
class _Span:
    """A preliminary segment of one or more phones, which extends to the next span."""

    start: int
    phones: tuple[str, ...]


def label_ipa(speech: Speech, transcription: Transcription, tones: str = "") -> list[Segment]:
    """Label clean speech with phones and pauses: contiguous, from the first sample to the last, each at least 5 ms long.

    ``tones`` is the language whose tones are written, "" to leave them out.

    Raises:
        data_prep.leaving_out.Unusable: see `data_prep.espeak_ipa.phones_of`.
    """
    spans = _split_spans(_make_spans(speech, phones_of(speech.phonemes, transcription, tones)), speech)
    starts = [span.start for span in spans]
    for index, (previous, span) in enumerate(pairwise(spans), 1):
        if manner_of(previous.phones[0]) in SONORANTS and manner_of(span.phones[0]) in VOWELS:
            starts[index] = snap_vowel_start(speech, previous.start, span.start)
    length = len(speech.samples)
    starts = enforce_min_length(starts, length, round(MIN_SEGMENT_MS * speech.sample_rate_hz / 1000))
    ends = [*starts[1:], length]
    return [Segment(start, end, span.phones[0]) for start, end, span in zip(starts, ends, spans, strict=True)]


@cache
def manner_of(phone: str) -> str:
    """The manner of articulation of a phone in IPA; that of a pause is "other"."""
    return manner(phone)[1]


def _make_spans(speech: Speech, phones: list[tuple[str, ...]]) -> list[_Span]:
    """Make spans of the phonemes. Pauses are merged; what has no sound or no symbol of its own joins the previous span."""
    spans, following = [_Span(0, (PAUSE,))], iter(phones)
    ends = [phoneme.start for phoneme in speech.phonemes[1:]] + [len(speech.samples)]
    begun = None  # start of a modifier or of a phoneme without a symbol, which joins the next phone
    for phoneme, end in zip(speech.phonemes, ends, strict=True):
        name, previous = phoneme.name.lstrip(STRESS), spans[-1]
        if not is_sound(name):
            if name.startswith("_") and previous.phones != (PAUSE,):
                spans.append(_Span(phoneme.start, (PAUSE,)))
            begun = phoneme.start if name == ";" else None
            continue
        written = next(following)
        soundless = zero_run_before(speech.samples, phoneme.start, end) >= end - phoneme.start - 1
        if not written:
            begun = phoneme.start if previous.phones == (PAUSE,) else None
        elif soundless and previous.phones != (PAUSE,) and manner_of(written[0]) not in STOPS:
            previous.phones += written
        else:
            start = phoneme.start if begun is None else begun
            spans.append(_Span(start - _closure(speech, previous, start, written[0]), written))
            begun = None
    if spans[-1].phones != (PAUSE,):
        spans.append(_Span(len(speech.samples), (PAUSE,)))
    return spans


def _closure(speech: Speech, previous: _Span, start: int, phone: str) -> int:
    """Length of the silence before a stop, in samples. espeak-ng has it at the end of the previous phone."""
    if previous.phones == (PAUSE,) or manner_of(phone) not in STOPS:
        return 0
    gap = zero_run_before(speech.samples, previous.start, start)
    return gap if gap >= ZERO_RUN_MS * speech.sample_rate_hz / 1000 else 0


def _split_spans(spans: list[_Span], speech: Speech) -> list[_Span]:
    """Split spans of several phones at their largest spectral changes."""
    result = []
    for span, end in zip(spans, [*(following.start for following in spans[1:]), len(speech.samples)], strict=True):
        start, phones = span.start, span.phones
        while len(phones) > 1:
            result.append(_Span(start, phones[:1]))
            start, phones = find_best_split(speech, start, end), phones[1:]
        result.append(_Span(start, phones))
    return result
