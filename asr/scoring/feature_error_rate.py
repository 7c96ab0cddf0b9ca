"""Phone feature error rate (PFER): the phone error rate in which similar phones are confused at a lower cost.

In:  a `Score` whose phones are in IPA, X-SAMPA, TIMIT or ARPAbet. Out: `FeatureErrors`.
The phones of reference and hypothesis, after the scoring convention, become segments of the IPA: a diphthong has two, a
silence none. A segment is a vector of 24 articulatory features. The distance of an utterance is its minimal edit distance
in segments. A substitution costs the share of features that differ, a deletion or insertion 1. PFER is the sum of the
distances over the number of reference segments.
Sources: Mortensen et al., "PanPhon: a resource for mapping IPA segments to articulatory feature vectors", 2016, for
features and distance (its ``hamming_feature_edit_distance``); Taguchi et al., "Universal automatic phonetic transcription
into the International Phonetic Alphabet", 2023, for the rate. The features come from panphon (`pip install
'asr-phones[ipa]'`).
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np

from asr.corpus.notation import SILENCES, translate
from asr.errors import InputError
from asr.scoring.error_rate import RESAMPLES, Score, resampled_sums

READ_AS = {"g": "ɡ", "ɝ": "ɜ˞", "ɚ": "ə˞", "ᵻ": "ɨ", "ᵿ": "ʉ", "\u035c": "\u0361", "\u030d": "\u0329"}
"""What panphon cannot read, and the same symbol, or the nearest, as it can."""
STRESS = "ˈˌ"
"""Marks that belong to no segment."""

Segmentation = Callable[[str], tuple[Sequence[str], bool]]
"""Phone in IPA -> its segments, and whether these are all of it."""


@dataclass(frozen=True)
class FeatureErrors:
    """The distance of hypotheses from their references in segments, and the 95 % interval of the PFER, a fraction.

    ``unread`` are phones that have no features, or have marks without features. A segment without features costs 1 against
    every other.
    """

    distance: float
    reference_segments: int
    interval: tuple[float, float] | None
    unread: tuple[str, ...]

    @property
    def pfer(self) -> float:
        """Phone feature error rate as a fraction. With 0 reference segments it is 0 without errors, else infinite."""
        if self.reference_segments == 0:
            return float("inf") if self.distance else 0.0
        return self.distance / self.reference_segments


def feature_errors(result: Score) -> FeatureErrors | None:
    """The phone feature errors of a score; None if its phones have no known notation, or panphon is not installed.

    The interval is that of `asr.scoring.error_rate.confidence_interval`.
    """
    if not result.notation or _feature_table() is None:
        return None
    phones = sorted(
        {phone for one in result.utterances for edit in one.edits for phone in edit[1:] if phone is not None}
    )
    try:
        in_ipa = translate(phones, result.notation, "ipa")
    except InputError:
        return None
    segments_of, unread = _segments({phone: ipa for phone, ipa in in_ipa.items() if phone not in SILENCES})
    names = sorted({segment for segments in segments_of.values() for segment in segments})
    costs, index_of = substitution_costs(names), {name: index for index, name in enumerate(names)}

    def indices(side: Iterable[str | None]) -> np.ndarray:
        segments = (segment for phone in side if phone is not None for segment in segments_of.get(phone, ()))
        return np.array([index_of[segment] for segment in segments], np.int64)

    sums: dict[str, np.ndarray] = {}
    for one in result.utterances:
        reference = indices(edit.reference for edit in one.edits)
        distance = edit_distance(reference, indices(edit.hypothesis for edit in one.edits), costs)
        sums[one.speaker] = sums.get(one.speaker, np.zeros(2)) + np.array([distance, len(reference)])
    table = np.array(list(dict(sorted(sums.items())).values())).reshape(-1, 2)
    return FeatureErrors(float(table[:, 0].sum()), int(table[:, 1].sum()), _interval(table), tuple(unread))


def substitution_costs(segments: Sequence[str]) -> np.ndarray:
    """The share of features in which two segments differ, (segments, segments) float64."""
    table = _feature_table()
    assert table is not None
    features = [table.fts(segment, False) for segment in segments]
    readable = np.array([bool(found) for found in features], bool)
    width = len(table.names)
    vectors = np.array([found.numeric() if found else [0] * width for found in features]).reshape(-1, width)
    costs = (vectors[:, None] != vectors[None]).mean(axis=2)
    costs[~readable[:, None] | ~readable[None]] = 1.0
    np.fill_diagonal(costs, 0.0)
    return costs


@numba.njit(cache=True, nogil=True)
def edit_distance(reference: np.ndarray, hypothesis: np.ndarray, costs: np.ndarray) -> float:
    """The minimal edit distance of two sequences of indices: substitutions by ``costs``, deletions and insertions 1."""
    row = np.arange(len(hypothesis) + 1).astype(np.float64)
    for i in range(len(reference)):
        diagonal, row[0] = row[0], i + 1.0
        for j in range(len(hypothesis)):
            substituted = diagonal + costs[reference[i], hypothesis[j]]
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1.0, row[j + 1] + 1.0)
    return row[-1]


def _segments(in_ipa: dict[str, str | None]) -> tuple[dict[str, Sequence[str]], list[str]]:
    """The segments of each phone, and the phones that panphon cannot read, or not all of."""
    table = _feature_table()
    assert table is not None
    segments_of: dict[str, Sequence[str]] = {}
    unread = []
    for phone, ipa in in_ipa.items():
        text = "".join(READ_AS.get(character, character) for character in ipa or "" if character not in STRESS)
        segments_of[phone] = table.ipa_segs(text) or ([text] if text else [])
        if "".join(table.ipa_segs(text)) != unicodedata.normalize("NFD", text):
            unread.append(phone)
    return segments_of, unread


def _interval(table: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the ratio of a (speakers, 2) table's sums, from resampled speakers; None if there is only one."""
    if len(table) < 2 or not table[:, 1].sum():
        return None
    distances, segments = resampled_sums(table, RESAMPLES, 0).T
    low, high = np.percentile(distances / np.maximum(segments, 1), [2.5, 97.5])
    return float(low), float(high)


@cache
def _feature_table() -> Any:
    """The table of panphon; None if it is not installed."""
    try:
        import panphon
    except ImportError:
        return None
    return panphon.FeatureTable()
