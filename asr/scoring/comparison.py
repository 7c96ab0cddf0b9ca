"""Two systems on the same utterances: is one better, or is it chance?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import InputError
from asr.scoring.alignment import CORRECT, INSERTION, Edit
from asr.scoring.error_rate import RESAMPLES, Score, Scored, resampled_sums
from asr.scoring.results import headline, percent

GOOD_RUN = 2
"""Phones that both systems have right between two segments of the matched-pairs test, sclite's default."""


@dataclass(frozen=True)
class MatchedPairs:
    """NIST's matched-pairs sentence-segment word error test (MAPSSWE).

    Utterances are cut into segments where both systems have two phones right; ``z`` is the mean difference in errors of a
    segment in units of its standard error, and ``p`` the probability of one as large by chance.
    Source: Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", 1989.
    """

    segments: int
    z: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """How the second of two systems differs from the first, in fractions; the 95 % interval is None for one speaker."""

    first: Score
    second: Score
    difference: float
    interval: tuple[float, float] | None
    matched_pairs: MatchedPairs
    changed: Sequence[tuple[Scored, Scored]]
    """Utterances with more or fewer errors, the greatest change first."""


def compare(first: Score, second: Score, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two scores of the same utterances under the same convention.

    The interval is of the difference in PER over resampled speakers, the same ones for both systems.

    Raises:
        InputError: they have other utterances, references or conventions.
    """
    pairs = _pairs(first, second)
    speakers = sorted(first.speakers)
    table = np.array(
        [
            (first.speakers[name].errors, second.speakers[name].errors, one.reference_phones, two.reference_phones)
            for name in speakers
            for one, two in [(first.speakers[name], second.speakers[name])]
        ]
    ).reshape(-1, 4)
    found = None
    if len(speakers) > 1 and first.total.reference_phones:
        sums = resampled_sums(table, resamples, seed)
        differences = sums[:, 1] / np.maximum(sums[:, 3], 1) - sums[:, 0] / np.maximum(sums[:, 2], 1)
        low, high = np.percentile(differences, [2.5, 97.5])
        found = (float(low), float(high))
    changed = [(one, two) for one, two in pairs if one.counts.errors != two.counts.errors]
    changed.sort(key=lambda pair: (-abs(pair[1].counts.errors - pair[0].counts.errors), pair[0].id))
    difference = second.total.per - first.total.per if first.total.reference_phones else 0.0
    return Comparison(first, second, difference, found, matched_pairs(pairs), changed)


def _pairs(first: Score, second: Score) -> list[tuple[Scored, Scored]]:
    if first.convention != second.convention:
        raise InputError(f"conventions {first.convention} and {second.convention}, expected the same for both systems")
    others = {one.id: one for one in second.utterances}
    alone = {one.id for one in first.utterances} ^ others.keys()
    if alone:
        raise InputError(f"{len(alone)} utterances of one system alone, {min(alone)} first, expected the same for both")
    pairs = [(one, others[one.id]) for one in first.utterances]
    for one, two in pairs:
        if (list(one.reference), one.speaker) != (list(two.reference), two.speaker):
            raise InputError(f"utterance {one.id}: two references or speakers, expected the same for both systems")
    return pairs


def matched_pairs(pairs: Sequence[tuple[Scored, Scored]]) -> MatchedPairs:
    """The matched-pairs test over the alignments of two systems with the same references."""
    differences = np.array([one - two for first, second in pairs for one, two in segments(first.edits, second.edits)])
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    z = float(differences.mean()) / (spread / math.sqrt(len(differences))) if spread else 0.0
    return MatchedPairs(len(differences), z, math.erfc(abs(z) / math.sqrt(2)))


def segments(first: Sequence[Edit], second: Sequence[Edit]) -> list[tuple[int, int]]:
    """The errors of both systems in each segment of an utterance that has any."""
    found, errors, good = [], [0, 0], 0
    for one, two in zip(_by_phone(first), _by_phone(second), strict=True):
        if one == two == (0, 0):
            good += 1
            if good == GOOD_RUN and any(errors):
                found.append((errors[0], errors[1]))
                errors = [0, 0]
            continue
        # A phone both have right after an insertion begins a new run of such phones.
        good = int(one[1] == two[1] == 0)
        errors = [errors[0] + sum(one), errors[1] + sum(two)]
    return [*found, (errors[0], errors[1])] if any(errors) else found


def _by_phone(edits: Sequence[Edit]) -> list[tuple[int, int]]:
    """For each phone of the reference, and the end: the insertions before it, and whether it is wrong itself."""
    phones, inserted = [], 0
    for edit in edits:
        if edit.kind == INSERTION:
            inserted += 1
        else:
            phones.append((inserted, int(edit.kind != CORRECT)))
            inserted = 0
    return [*phones, (inserted, 0)]


def comparison_lines(result: Comparison, first: str, second: str, shown: int = 10) -> list[str]:
    """The comparison in words."""
    test = result.matched_pairs
    between = "no interval: one speaker"
    if result.interval:
        low, high = (f"{100 * one:+.2f}" for one in result.interval)
        between = f"95 % interval {low} to {high}"
    lines = [
        f"{first}: {headline(result.first)}",
        f"{second}: {headline(result.second)}",
        f"difference {100 * result.difference:+.2f} points, {between} (paired, speakers resampled)",
        f"matched pairs (MAPSSWE): {test.segments} segments, z {test.z:.3f}, p {test.p:.3g}",
        f"utterances with more or fewer errors: {len(result.changed)} of {len(result.first.utterances)}",
    ]
    for one, two in result.changed[:shown]:
        errors = f"{one.counts.errors} -> {two.counts.errors} errors of {one.counts.reference_phones}"
        lines.append(f"  {one.id} ({percent(one.counts.per)} -> {percent(two.counts.per)} %): {errors}")
    return lines
