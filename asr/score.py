"""Edit alignment, phone error rate (PER) and scoring conventions.

PER = (S + D + I) / N over the whole set, from the minimum edit distance of each utterance, as a fraction (0.25 is 25 %).
Where several alignments cost the same, S, D and I are those of jiwer's (rapidfuzz's) alignment; their sum is unique.
Folding TIMIT's phones to the 39 of scoring happens here and nowhere else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import jiwer

from asr.phones import fold_timit

CONVENTIONS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    # ARPAbet corpora: 39 phones, no silence, nothing to fold.
    "plain": list,
    # Kaldi since 2014: folded to 39, the glottal stop dropped, every silence scored.
    "kaldi": fold_timit,
}
"""What is done to reference and hypothesis alike before they are compared."""


@dataclass(frozen=True)
class Counts:
    """Errors of one or many utterances."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_phones: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_phones + other.reference_phones,
        )

    @property
    def errors(self) -> int:
        """S + D + I."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def per(self) -> float:
        """Phone error rate as a fraction. Against 0 reference phones it is 0 without errors and infinite with any."""
        if self.reference_phones == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.reference_phones


@dataclass(frozen=True)
class Scored:
    """One utterance: what was said, what was recognized (both before the convention), and the errors under it."""

    id: str
    speaker: str
    reference: Sequence[str]
    hypothesis: Sequence[str]
    counts: Counts


@dataclass(frozen=True)
class Score:
    """A set of utterances scored under one convention."""

    convention: str
    utterances: Sequence[Scored]
    total: Counts = field(default_factory=Counts)
    speakers: Mapping[str, Counts] = field(default_factory=dict)


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    """Substitutions, deletions and insertions of a minimum edit alignment. Either side may be empty."""
    if not reference:
        return Counts(insertions=len(hypothesis))
    result = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return Counts(result.substitutions, result.deletions, result.insertions, len(reference))


def score(utterances: Iterable[tuple[str, str, Sequence[str], Sequence[str]]], convention: str) -> Score:
    """Score (id, speaker, reference phones, hypothesis phones) under a convention of `CONVENTIONS`."""
    rule = CONVENTIONS[convention]
    scored = [
        Scored(name, speaker, reference, hypothesis, count_errors(rule(reference), rule(hypothesis)))
        for name, speaker, reference, hypothesis in utterances
    ]
    speakers: dict[str, Counts] = {}
    for one in scored:
        speakers[one.speaker] = speakers.get(one.speaker, Counts()) + one.counts
    total = sum((one.counts for one in scored), Counts())
    return Score(convention, scored, total, dict(sorted(speakers.items())))
