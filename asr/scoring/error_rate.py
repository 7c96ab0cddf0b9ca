"""Phone error rate (PER) under every published scoring convention, with its counts and a confidence interval.

PER = (S + D + I) / N over the whole set, as a fraction (0.25 is 25 %), by the alignment of `asr.scoring.alignment`. Folding
TIMIT's phones to the 39 of scoring happens here and nowhere else.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from asr.corpus.phones import fold_timit, timit_folding
from asr.errors import InputError
from asr.scoring.alignment import Counts, Edit, align, count

SILENCE = "sil"
RESAMPLES = 1000


@dataclass(frozen=True)
class Convention:
    """What is done to reference and hypothesis alike before they are compared, and who does it.

    An ``optional`` phone of the reference that was not recognized costs nothing.
    """

    rule: Callable[[Sequence[str]], list[str]]
    summary: str
    optional: frozenset[str] = frozenset()


def merge_silences(phones: Sequence[str]) -> list[str]:
    """Phones folded to 39, runs of silence as one."""
    runs = ((phone, list(run)) for phone, run in groupby(fold_timit(phones)))
    return [same for phone, run in runs for same in (run[:1] if phone == SILENCE else run)]


def drop_silences(phones: Sequence[str]) -> list[str]:
    """Phones folded to 39, without silence."""
    return [phone for phone in fold_timit(phones) if phone != SILENCE]


def check_61(phones: Sequence[str]) -> list[str]:
    """The phones as they are, each one of TIMIT's 61."""
    unknown = [phone for phone in phones if phone not in timit_folding()]
    if unknown:
        raise InputError(f"unknown TIMIT phone {unknown[0]!r}, expected one of the 61")
    return list(phones)


CONVENTIONS: dict[str, Convention] = {
    "plain": Convention(list, "phones as they are (ARPAbet corpora)"),
    "kaldi": Convention(fold_timit, "39 phones, q dropped, every sil scored (Kaldi since 2014, ESPnet, icefall)"),
    "optional-sil": Convention(
        fold_timit, "as kaldi, a sil not recognized costs nothing (Kaldi before 2014)", frozenset({SILENCE})
    ),
    "merged-sil": Convention(merge_silences, "as kaldi, runs of sil are one (SpeechBrain)"),
    "no-sil": Convention(drop_silences, "as kaldi, without sil"),
    "61": Convention(check_61, "no folding, q scored (Graves 2006)"),
}
"""By name. All but ``plain`` are TIMIT's."""


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


def conventions_for(headline: str, phones: Collection[str]) -> list[str]:
    """The conventions a system can be scored under, the headline first, given the phones it knows.

    ``61`` is for those that tell all of TIMIT's 61 phones apart.
    """
    if headline == "plain":
        return ["plain"]
    names = [name for name in CONVENTIONS if name not in (headline, "plain")]
    return [headline, *(name for name in names if name != "61" or timit_folding().keys() <= set(phones))]


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
