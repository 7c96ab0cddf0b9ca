"""Alignment of a hypothesis with its reference, and its error counts.

In:  reference and hypothesis phones. Out: a list of `Edit`s, or their `Counts`.
The alignment is that of NIST's sclite, so that all counts agree: a substitution costs 4, a deletion or insertion 3, the
deletion of an optional word 2, and the sum is minimal. Ties are broken from the end of the utterance: first a match or
substitution, then an insertion, then a deletion (Fiscus, SCTK 2.4.10). The number of errors is then the edit distance,
except for a few pairs with little in common (15 of 3,000 random ones, by one error).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from asr.errors import InputError

MAX_PAIRS = 2**28
"""Largest product of reference and hypothesis phones, a byte each: 16,000 phones are half an hour of speech."""
CORRECT, SUBSTITUTION, DELETION, INSERTION = range(4)


@dataclass(frozen=True)
class Counts:
    """Error counts of one or many utterances."""

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
        """Phone error rate as a fraction. With 0 reference phones it is 0 without errors, else infinite."""
        if self.reference_phones == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.reference_phones


class Edit(NamedTuple):
    """One step of an alignment: a reference phone, a hypothesis phone, or both; None for the missing side.

    ``kind`` is CORRECT, SUBSTITUTION, DELETION or INSERTION. The deletion of an optional phone is CORRECT.
    """

    kind: int
    reference: str | None
    hypothesis: str | None


def align(reference: Sequence[str], hypothesis: Sequence[str], optional: Collection[str] = ()) -> list[Edit]:
    """Align a hypothesis with its reference; deletions of ``optional`` phones do not count as errors.

    Raises:
        InputError: more than `MAX_PAIRS` pairs of phones.
    """
    if len(reference) * len(hypothesis) > MAX_PAIRS:
        sizes = f"{len(reference)} reference and {len(hypothesis)} hypothesis phones in one utterance"
        raise InputError(f"{sizes}, expected fewer than {round(MAX_PAIRS**0.5)} each: split the recording")
    edits, row, column = [], 0, 0
    for kind in _edit_kinds(reference, hypothesis, optional):
        reference_phone = None if kind == INSERTION else reference[row]
        hypothesis_phone = None if kind == DELETION else hypothesis[column]
        row, column = row + (kind != INSERTION), column + (kind != DELETION)
        free = kind == DELETION and reference_phone in optional
        edits.append(Edit(CORRECT if free else int(kind), reference_phone, hypothesis_phone))
    return edits


def count_edits(edits: Iterable[Edit]) -> Counts:
    """Count the errors of an alignment."""
    counts = [0, 0, 0, 0]
    for edit in edits:
        counts[edit.kind] += 1
    return Counts(counts[SUBSTITUTION], counts[DELETION], counts[INSERTION], sum(counts) - counts[INSERTION])


def count_errors(reference: Sequence[str], hypothesis: Sequence[str], optional: Collection[str] = ()) -> Counts:
    """Align a hypothesis with its reference and count the errors. Either side may be empty."""
    return count_edits(align(reference, hypothesis, optional))


def _edit_kinds(reference: Sequence[str], hypothesis: Sequence[str], optional: Collection[str]) -> np.ndarray:
    ids: dict[str, int] = {}
    reference_ids, hypothesis_ids = (
        np.array([ids.setdefault(phone, len(ids)) for phone in side], np.int32) for side in (reference, hypothesis)
    )
    deletion_costs = np.array([2 if phone in optional else 3 for phone in reference], np.int64)
    return _best_alignment(reference_ids, hypothesis_ids, deletion_costs)


@numba.njit(cache=True, nogil=True)
def _best_alignment(reference: np.ndarray, hypothesis: np.ndarray, deletion_costs: np.ndarray) -> np.ndarray:
    rows, columns = len(reference), len(hypothesis)
    above, cost = np.zeros(columns + 1, np.int64), 3 * np.arange(columns + 1)
    last = np.zeros((rows + 1, columns + 1), np.uint8)
    last[0, 1:] = INSERTION
    for row in range(1, rows + 1):
        above, cost = cost, above
        cost[0], last[row, 0] = above[0] + deletion_costs[row - 1], DELETION
        for column in range(1, columns + 1):
            same = reference[row - 1] == hypothesis[column - 1]
            diagonal = above[column - 1] + (0 if same else 4)
            deleted = above[column] + deletion_costs[row - 1]
            inserted = cost[column - 1] + 3
            if diagonal <= deleted and diagonal <= inserted:
                cost[column], last[row, column] = diagonal, CORRECT if same else SUBSTITUTION
            elif deleted < inserted:
                cost[column], last[row, column] = deleted, DELETION
            else:
                cost[column], last[row, column] = inserted, INSERTION
    kinds = np.empty(rows + columns, np.uint8)
    first, row, column = len(kinds), rows, columns
    while row > 0 or column > 0:
        first -= 1
        kinds[first] = last[row, column]
        row, column = row - (kinds[first] != INSERTION), column - (kinds[first] != DELETION)
    return kinds[first:]
