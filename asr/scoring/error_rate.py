"""Phone error rate (PER) under every published scoring convention, with its counts and a confidence interval.

PER = (S + D + I) / N over the whole set, as a fraction (0.25 is 25 %), by the alignment of `asr.scoring.alignment`. Folding
TIMIT's phones to the 39 of scoring happens here and nowhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.errors import InputError
from asr.scoring.alignment import Counts, Edit, align, count
from asr.scoring.conventions import CONVENTIONS, Convention

RESAMPLES = 1000


@dataclass(frozen=True)
class Scored:
    """One utterance: what was said, what was recognized (both before the convention), their alignment and its errors."""

    id: str
    speaker: str
    reference: Sequence[str]
    hypothesis: Sequence[str]
    edits: Sequence[Edit]
    counts: Counts


@dataclass(frozen=True)
class Score:
    """A set of utterances scored under one convention."""

    convention: str
    utterances: Sequence[Scored]
    total: Counts = field(default_factory=Counts)
    speakers: Mapping[str, Counts] = field(default_factory=dict)


Transcribed = tuple[str, str, Sequence[str], Sequence[str]]
"""Id, speaker, reference phones and hypothesis phones of an utterance."""


def score(utterances: Iterable[Transcribed], convention: str) -> Score:
    """Score utterances under a convention of `CONVENTIONS`.

    Raises:
        InputError: a phone that the convention does not know, with its utterance.
    """
    scored = [_score_one(one, CONVENTIONS[convention]) for one in utterances]
    speakers: dict[str, Counts] = {}
    for one in scored:
        speakers[one.speaker] = speakers.get(one.speaker, Counts()) + one.counts
    total = sum((one.counts for one in scored), Counts())
    return Score(convention, scored, total, dict(sorted(speakers.items())))


def _score_one(utterance: Transcribed, convention: Convention) -> Scored:
    name, speaker, reference, hypothesis = utterance
    try:
        edits = align(convention.rule(reference), convention.rule(hypothesis), convention.optional)
    except InputError as error:
        raise InputError(f"utterance {name}: {error}") from error
    return Scored(name, speaker, reference, hypothesis, edits, count(edits))


def interval(result: Score, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % confidence interval of the PER: percentiles of it over resampled sets of speakers.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", 2004, here with
    speakers, since utterances of one are not independent. None for fewer than two speakers, or no reference phones.
    """
    counts = list(result.speakers.values())
    if len(counts) < 2 or not result.total.reference_phones:
        return None
    table = np.array([(one.errors, one.reference_phones) for one in counts])
    errors, phones = resampled_sums(table, resamples, seed).T
    low, high = np.percentile(errors / np.maximum(phones, 1), [2.5, 97.5])
    return float(low), float(high)


def resampled_sums(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over the rows of a (speakers, columns) table, each time as many drawn with replacement: (resamples, columns)."""
    generator = np.random.default_rng(seed)
    chosen = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=resamples)
    return chosen @ table
