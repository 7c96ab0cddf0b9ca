"""Utterances of a corpus that somebody should look at and listen to, and why.

In:  a `Tally`.
Out: a `Suspicion` for each kind, with its rule and the utterances that it finds, worst first.

A rule says what is unusual, not what is wrong: a child may speak slowly, and a corpus may repeat its sentences on purpose.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asr.reports.corpus_audio import MIN_CONTRAST_DB
from asr.reports.corpus_tally import Tally

RATE_DEVIATIONS = 3.5
"""Accepted difference of a speaking rate from the median, in standard deviations of its logarithm, and never less than a
factor of `LEAST_RATE_FACTOR`. The standard deviation is 1.4826 times the median absolute deviation."""

LEAST_RATE_FACTOR = 2.0
CLIPPED_SHARE = 0.001
SILENT_DB = -60.0
LARGEST_OFFSET = 0.02
NARROW_SHARE = 0.55
"""Audio is narrowband if its spectrum ends below this share of half the sample rate, of which 16 kHz at most count."""

USED_RATE_HZ = 16_000
TEXT_FACTOR = 3.0
TEXT_DIFFERENCE_S = 1.0
"""The same text has very different durations if the speech is so many times and so much longer or shorter than usual."""

LARGEST_PER = 0.75
STEADY_S = 0.5


@dataclass(frozen=True)
class Suspicion:
    """Utterances of one kind. ``rows`` are indices into the columns of the tally, worst first, with a value for each.

    ``others`` has the row of another utterance for each, or is empty. ``reason`` makes a sentence of a value and the name
    of that other utterance.
    """

    name: str
    title: str
    rule: str
    rows: np.ndarray
    values: np.ndarray
    reason: Callable[[float, str], str]
    others: np.ndarray


def find_suspicions(tally: Tally) -> list[Suspicion]:
    """Every kind of suspicion, also those that find nothing."""
    found = [*_rates(tally), *_levels(tally), *_sounds(tally), *_copies(tally), _text_durations(tally)]
    found += _overlaps(tally) if len(tally.splits) > 1 else []
    return [*found, _transcripts(tally)] if "per" in tally.columns else found


def _make(
    name: str,
    title: str,
    rule: str,
    chosen: np.ndarray,
    values: np.ndarray,
    reason: Callable[[float, str], str],
    others: np.ndarray | None = None,
    severity: np.ndarray | None = None,
) -> Suspicion:
    """A suspicion of the rows where ``chosen`` (utterances,) is true; worst are the largest severities, or else values."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(-(values if severity is None else severity)[rows], kind="stable")]
    other_rows = np.zeros(0, np.int64) if others is None else others[rows]
    return Suspicion(name, title, rule, rows, np.asarray(values[rows], np.float64), reason, other_rows)


def _rates(tally: Tally) -> list[Suspicion]:
    rates = tally.columns["phones_per_s"]
    logs = np.log(np.maximum(rates, 1e-3))
    median = float(np.median(logs))
    deviation = 1.4826 * float(np.median(np.abs(logs - median)))
    factor = float(np.exp(max(RATE_DEVIATIONS * deviation, np.log(LEAST_RATE_FACTOR))))
    usual = float(np.exp(median))

    def reason(value: float, other: str) -> str:
        return f"{value:.1f} phones per second; the median is {usual:.1f}"

    low, high = usual / factor, usual * factor
    few = _make(
        "few phones",
        "too few phones per second",
        f"fewer than {low:.1f} phones per second of speech; the median is {usual:.1f}",
        rates < low,
        rates,
        reason,
        severity=-rates,
    )
    many = _make(
        "many phones",
        "too many phones per second",
        f"more than {high:.1f} phones per second of speech; the median is {usual:.1f}",
        rates > high,
        rates,
        reason,
    )
    return [few, many]


def _levels(tally: Tally) -> list[Suspicion]:
    clipped, level, offset = (tally.columns[name] for name in ("clipped", "level_db", "offset"))
    return [
        _make(
            "clipped",
            "clipped",
            f"more than {100 * CLIPPED_SHARE:g} % of the samples in runs at the highest or lowest value",
            clipped > CLIPPED_SHARE,
            100 * clipped,
            lambda value, _: f"{value:.2g} % of the samples are clipped",
        ),
        _make(
            "silent",
            "nearly silent",
            f"level below {_minus(SILENT_DB)} dB",
            level < SILENT_DB,
            level,
            lambda value, _: f"level {_minus(value)} dB",
            severity=-level,
        ),
        _make(
            "offset",
            "DC offset",
            f"the mean of the samples exceeds {100 * LARGEST_OFFSET:g} % of full scale",
            np.abs(offset) > LARGEST_OFFSET,
            100 * offset,
            lambda value, _: f"the mean of the samples is {_minus(value, 1)} % of full scale",
            severity=np.abs(offset),
        ),
    ]


def _sounds(tally: Tally) -> list[Suspicion]:
    narrow, usable = tally.columns["bandwidth_hz"], np.minimum(tally.columns["rate_hz"], USED_RATE_HZ) / 2
    steady = np.isnan(tally.columns["snr_db"]) & (tally.columns["duration_s"] >= STEADY_S)
    return [
        _make(
            "steady",
            "steady sound",
            f"{STEADY_S:g} s or longer, without pauses {MIN_CONTRAST_DB:g} dB below the speech",
            steady,
            tally.columns["level_db"],
            lambda value, _: f"speech and pauses differ by less than {MIN_CONTRAST_DB:g} dB",
        ),
        _make(
            "narrowband",
            "narrowband",
            f"nothing in the upper {100 * (1 - NARROW_SHARE):.0f} % of the spectrum below {USED_RATE_HZ // 2000} kHz",
            narrow < NARROW_SHARE * usable,
            narrow / 1000,
            lambda value, _: f"nothing above {value:.1f} kHz",
            severity=-narrow,
        ),
    ]


def _copies(tally: Tally) -> list[Suspicion]:
    """Utterances with the audio of an earlier one: the same part of the same file, or another file with these samples."""
    first_part, first_samples = (_first_of_equals(tally.columns[name]) for name in ("part", "samples"))
    rows = np.arange(len(first_part))
    same_part = first_part < rows
    same_samples = (first_samples < rows) & ~same_part
    return [
        _make(
            "same audio",
            "same audio twice",
            "the same part of the same file as an earlier utterance",
            same_part,
            np.ones(len(rows)),
            lambda _, other: f"the same part of the same file as {other}",
            first_part,
        ),
        _make(
            "same samples",
            "same samples twice",
            "exactly the samples of an earlier utterance in another file, or another part of it",
            same_samples,
            np.ones(len(rows)),
            lambda _, other: f"the same samples as {other}",
            first_samples,
        ),
    ]


def _first_of_equals(values: np.ndarray) -> np.ndarray:
    """For each entry, the index of the first that is equal to it."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse]


def _text_durations(tally: Tally) -> Suspicion:
    """Utterances whose speech is far from the middle duration of the same text; of two, from the other."""
    speech_s, text = tally.columns["speech_s"], tally.columns["text"]
    order = np.lexsort((speech_s, text))
    _, starts, counts = np.unique(text[order], return_index=True, return_counts=True)
    ordered = speech_s[order]
    middle = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) / 2
    usual = np.empty_like(speech_s)
    usual[order] = np.repeat(middle, counts)
    size = np.empty(len(text), np.int64)
    size[order] = np.repeat(counts, counts)
    usual = np.where(size == 2, 2 * usual - speech_s, usual)
    ratio = speech_s / usual
    extreme = np.maximum(ratio, 1 / ratio)
    chosen = (extreme > TEXT_FACTOR) & (np.abs(speech_s - usual) > TEXT_DIFFERENCE_S) & (size > 1) & (text != 0)
    return _make(
        "text durations",
        "same text, very different durations",
        f"{TEXT_FACTOR:g} times and {TEXT_DIFFERENCE_S:g} s longer or shorter than the same text elsewhere (the median)",
        chosen,
        ratio,
        lambda value, _: f"{value:.2g} times as long as the same text elsewhere",
        severity=extreme,
    )


def _overlaps(tally: Tally) -> list[Suspicion]:
    """Utterances beside the training split whose speaker, or whose text, is in another split, or in the training split."""
    split, training = tally.columns["split"], tally.training
    beside = split != training
    in_splits = np.unique(np.stack([tally.columns["speaker"], split]), axis=1)[0]
    speaker_splits = np.bincount(in_splits)[tally.columns["speaker"]]
    text = tally.columns["text"]
    known = np.isin(text, text[~beside]) & (text != 0)
    name = tally.splits[training].name
    return [
        _make(
            "speaker",
            "speaker in two splits",
            f"the speaker is also in another split (counted outside {name})",
            beside & (speaker_splits > 1),
            speaker_splits.astype(float),
            lambda value, _: f"the speaker is in {value:.0f} splits",
        ),
        _make(
            "text",
            f"text also in {name}",
            f"the same words are also in {name} (counted outside {name})",
            beside & known,
            tally.columns["phones"].astype(float),
            lambda value, _: f"the text is also in {name}",
        ),
    ]


def _transcripts(tally: Tally) -> Suspicion:
    rates = tally.columns["per"]
    return _make(
        "transcript",
        "transcript unlike the hypothesis of the model",
        f"error rate of the model above {100 * LARGEST_PER:g} %",
        rates > LARGEST_PER,
        100 * rates,
        lambda value, _: f"error rate {value:.0f} %",
    )


def _minus(value: float, decimals: int = 0) -> str:
    return f"{value:.{decimals}f}".replace("-", "\u2212")
