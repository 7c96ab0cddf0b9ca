"""Compare two systems on the same utterances, and test whether their difference is significant.

In:  two `Score`s. Out: the difference in PER with a paired bootstrap interval, and NIST's matched-pairs test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import InputError
from asr.scoring.alignment import CORRECT, INSERTION, Edit
from asr.scoring.error_rate import RESAMPLES, Score, ScoredUtterance, resampled_sums
from asr.scoring.results import headline, percent

SEGMENT_BOUNDARY = 2
"""Number of consecutive phones, correct in both systems, that end a segment of the matched-pairs test; sclite's default."""


@dataclass(frozen=True)
class MatchedPairs:
    """NIST's matched-pairs sentence-segment word error test (MAPSSWE).

    Two consecutive phones that are correct in both systems separate the segments of an utterance. ``z`` is the mean
    difference in errors per segment divided by its standard error, ``p`` its two-sided p-value.
    Source: Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", 1989.
    """

    segments: int
    z: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Difference of the second system from the first, as fractions; the 95 % interval is None for one speaker."""

    first: Score
    second: Score
    difference: float
    interval: tuple[float, float] | None
    matched_pairs: MatchedPairs
    changed: Sequence[tuple[ScoredUtterance, ScoredUtterance]]
    """Utterances whose number of errors differs, the largest change first."""


def compare(first: Score, second: Score, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two scores of the same utterances under the same convention.

    The interval is that of the difference in PER over resampled speakers, the same speakers for both systems.

    Raises:
        InputError: the scores differ in utterances, references, speakers or conventions.
    """
    pairs = _pair_utterances(first, second)
    changed = [pair for pair in pairs if pair[0].counts.errors != pair[1].counts.errors]
    changed.sort(key=lambda pair: (-abs(pair[1].counts.errors - pair[0].counts.errors), pair[0].id))
    difference = second.total.per - first.total.per if first.total.reference_phones else 0.0
    interval = _difference_interval(first, second, resamples, seed)
    return Comparison(first, second, difference, interval, matched_pairs(pairs), changed)


def _difference_interval(first: Score, second: Score, resamples: int, seed: int) -> tuple[float, float] | None:
    """Paired bootstrap over speakers: 95 % interval of the difference in PER. None if there is nothing to resample."""
    speakers = sorted(first.speakers)
    if len(speakers) < 2 or not first.total.reference_phones:
        return None
    pairs = [(first.speakers[speaker], second.speakers[speaker]) for speaker in speakers]
    table = np.array([(one.errors, two.errors, one.reference_phones, two.reference_phones) for one, two in pairs])
    sums = resampled_sums(table, resamples, seed)
    differences = sums[:, 1] / np.maximum(sums[:, 3], 1) - sums[:, 0] / np.maximum(sums[:, 2], 1)
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _pair_utterances(first: Score, second: Score) -> list[tuple[ScoredUtterance, ScoredUtterance]]:
    if first.unit != second.unit:
        raise InputError(f"{first.unit}s and {second.unit}s, expected the same for both systems")
    if first.convention != second.convention:
        raise InputError(f"conventions {first.convention} and {second.convention}, expected the same for both systems")
    by_id = {utterance.id: utterance for utterance in second.utterances}
    unpaired = {utterance.id for utterance in first.utterances} ^ by_id.keys()
    if unpaired:
        utterances = f"{len(unpaired)} utterances of one system only, {min(unpaired)} first"
        raise InputError(f"{utterances}, expected the same utterances for both systems")
    pairs = [(utterance, by_id[utterance.id]) for utterance in first.utterances]
    for one, two in pairs:
        if (list(one.reference), one.speaker) != (list(two.reference), two.speaker):
            raise InputError(f"utterance {one.id}: references or speakers differ, expected the same for both systems")
    return pairs


def matched_pairs(pairs: Sequence[tuple[ScoredUtterance, ScoredUtterance]]) -> MatchedPairs:
    """Run the matched-pairs test over the alignments of two systems with the same references."""
    differences = np.array(
        [one - two for first, second in pairs for one, two in segment_errors(first.edits, second.edits)]
    )
    deviation = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    z = float(differences.mean()) / (deviation / math.sqrt(len(differences))) if deviation else 0.0
    return MatchedPairs(len(differences), z, math.erfc(abs(z) / math.sqrt(2)))


def segment_errors(first: Sequence[Edit], second: Sequence[Edit]) -> list[tuple[int, int]]:
    """Count the errors of both systems in each segment of an utterance; segments without errors are left out."""
    segments, errors, correct_run = [], [0, 0], 0
    for one, two in zip(_errors_by_phone(first), _errors_by_phone(second), strict=True):
        if one == two == (0, 0):
            correct_run += 1
            if correct_run == SEGMENT_BOUNDARY and any(errors):
                segments.append((errors[0], errors[1]))
                errors = [0, 0]
            continue
        # A phone that is correct in both systems after an insertion starts a new run.
        correct_run = int(one[1] == two[1] == 0)
        errors = [errors[0] + sum(one), errors[1] + sum(two)]
    return [*segments, (errors[0], errors[1])] if any(errors) else segments


def _errors_by_phone(edits: Sequence[Edit]) -> list[tuple[int, int]]:
    """Insertions before each reference phone, and 1 if the phone itself is wrong; the last entry is the utterance's end."""
    phones, insertions = [], 0
    for edit in edits:
        if edit.kind == INSERTION:
            insertions += 1
        else:
            phones.append((insertions, int(edit.kind != CORRECT)))
            insertions = 0
    return [*phones, (insertions, 0)]


def comparison_lines(result: Comparison, first: str, second: str, shown: int = 10) -> list[str]:
    """Describe a comparison in lines of text, with the first ``shown`` utterances that changed."""
    test = result.matched_pairs
    interval = "no interval: one speaker"
    if result.interval:
        low, high = (f"{100 * bound:+.2f}" for bound in result.interval)
        interval = f"95 % interval {low} to {high}"
    lines = [
        f"{first}: {headline(result.first)}",
        f"{second}: {headline(result.second)}",
        f"difference {100 * result.difference:+.2f} points, {interval} (paired, speakers resampled)",
        f"matched pairs (MAPSSWE): {test.segments} segments, z {test.z:.3f}, p {test.p:.3g}",
        f"utterances with more or fewer errors: {len(result.changed)} of {len(result.first.utterances)}",
    ]
    for one, two in result.changed[:shown]:
        errors = f"{one.counts.errors} -> {two.counts.errors} errors of {one.counts.reference_phones}"
        lines.append(f"  {one.id} ({percent(one.counts.per)} -> {percent(two.counts.per)} %): {errors}")
    return lines
