"""Phone error rate (PER) of a set of utterances under a scoring convention, with counts and a confidence interval.

PER = (S + D + I) / N over the whole set, as a fraction (0.25 is 25 %). The alignment is that of `asr.scoring.alignment`,
the folding that of `asr.scoring.conventions`. The same rate over graphemes is called CER, and ``|`` between words counts as
one of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.errors import InputError
from asr.scoring.alignment import Counts, Edit, align, count_edits
from asr.scoring.conventions import CONVENTIONS, Convention

GRAPHEMES = "graphemes"
"""The notation of letters instead of phones."""
RESAMPLES = 1000
"""Bootstrap samples for an interval."""


@dataclass(frozen=True)
class ScoredUtterance:
    """An utterance: reference and hypothesis (both before the convention applies), their alignment and error counts."""

    id: str
    speaker: str
    reference: Sequence[str]
    hypothesis: Sequence[str]
    edits: Sequence[Edit]
    counts: Counts


@dataclass(frozen=True)
class Score:
    """A set of utterances scored under one convention. ``notation`` is what the phones are in, "" if it is not known."""

    convention: str
    utterances: Sequence[ScoredUtterance]
    total: Counts = field(default_factory=Counts)
    speakers: Mapping[str, Counts] = field(default_factory=dict)
    notation: str = ""

    @property
    def rate_name(self) -> str:
        """PER, or CER for graphemes."""
        return rate_name(self.notation)

    @property
    def unit(self) -> str:
        """What is counted: phone or grapheme."""
        return unit_of(self.notation)


TranscriptPair = tuple[str, str, Sequence[str], Sequence[str]]
"""Id, speaker, reference phones and hypothesis phones of an utterance."""


def rate_name(notation: str) -> str:
    """The name of the error rate of phones in a notation: PER, or CER for graphemes."""
    return "CER" if notation == GRAPHEMES else "PER"


def unit_of(notation: str) -> str:
    """What is counted in a notation: phone or grapheme."""
    return "grapheme" if notation == GRAPHEMES else "phone"


def score(utterances: Iterable[TranscriptPair], convention: str, notation: str = "") -> Score:
    """Score utterances under a convention of `CONVENTIONS`. Their phones are in ``notation``, "" if it is not known.

    Raises:
        InputError: the convention does not know a phone; the message names the utterance.
    """
    scored = [_score_utterance(pair, CONVENTIONS[convention]) for pair in utterances]
    speakers: dict[str, Counts] = {}
    for utterance in scored:
        speakers[utterance.speaker] = speakers.get(utterance.speaker, Counts()) + utterance.counts
    total = sum((utterance.counts for utterance in scored), Counts())
    return Score(convention, scored, total, dict(sorted(speakers.items())), notation)


def _score_utterance(pair: TranscriptPair, convention: Convention) -> ScoredUtterance:
    utterance_id, speaker, reference, hypothesis = pair
    try:
        edits = align(convention.rule(reference), convention.rule(hypothesis), convention.optional)
    except InputError as error:
        raise InputError(f"utterance {utterance_id}: {error}") from error
    return ScoredUtterance(utterance_id, speaker, reference, hypothesis, edits, count_edits(edits))


def confidence_interval(result: Score, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float] | None:
    """95 % confidence interval of the PER, a fraction: percentiles over resampled sets of speakers.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", 2004. Speakers are
    resampled, because utterances of a speaker are not independent. None for fewer than two speakers or no reference phones.
    """
    counts = list(result.speakers.values())
    if len(counts) < 2 or not result.total.reference_phones:
        return None
    table = np.array([(speaker.errors, speaker.reference_phones) for speaker in counts])
    errors, phones = resampled_sums(table, resamples, seed).T
    low, high = np.percentile(errors / np.maximum(phones, 1), [2.5, 97.5])
    return float(low), float(high)


def resampled_sums(table: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sum a (speakers, columns) table over speakers drawn with replacement: (resamples, columns)."""
    generator = np.random.default_rng(seed)
    chosen = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=resamples)
    return chosen @ table
