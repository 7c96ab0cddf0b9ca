import jiwer
import numpy as np
import pytest

from asr.score import Counts, count_errors, score


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", (0, 0, 0, 3)),
        ("a b c", "a x c", (1, 0, 0, 3)),
        ("a b c", "a c", (0, 1, 0, 3)),
        ("a c", "a b c", (0, 0, 1, 2)),
        ("a a b", "a b", (0, 1, 0, 3)),
        ("sh iy hv ae d", "s iy ae d y", (1, 1, 1, 5)),
        ("a b", "", (0, 2, 0, 2)),
        ("", "a b", (0, 0, 2, 0)),
        ("", "", (0, 0, 0, 0)),
    ],
)
def test_counts_worked_by_hand(reference: str, hypothesis: str, expected: tuple[int, ...]) -> None:
    counts = count_errors(reference.split(), hypothesis.split())
    assert (counts.substitutions, counts.deletions, counts.insertions, counts.reference_phones) == expected


def edit_distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def test_errors_are_the_edit_distance_and_jiwers() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        reference, hypothesis = ([str(p) for p in generator.integers(0, 4, generator.integers(0, 9))] for _ in range(2))
        counts = count_errors(reference, hypothesis)
        assert counts.errors == edit_distance(reference, hypothesis)
        assert len(hypothesis) == len(reference) - counts.deletions + counts.insertions
        if reference:
            assert counts.per == pytest.approx(jiwer.wer(" ".join(reference), " ".join(hypothesis)))


def test_rates_of_nothing() -> None:
    assert Counts().per == 0
    assert Counts(insertions=1).per == float("inf")
    assert score([], "plain").total == Counts()


def test_a_set_is_scored_over_all_its_phones() -> None:
    result = score(
        [
            ("u1", "s1", ["a", "b", "c", "d"], ["a", "b", "c", "d"]),
            ("u2", "s2", ["a"], ["b"]),
            ("u3", "s1", ["a", "b"], ["a"]),
            ("u4", "s2", [], ["c"]),
        ],
        "plain",
    )
    assert result.total == Counts(1, 1, 1, 7)
    assert result.total.per == pytest.approx(3 / 7)  # not the mean of the utterances' rates
    assert result.speakers == {"s1": Counts(0, 1, 0, 6), "s2": Counts(1, 0, 1, 1)}
    assert [one.counts.errors for one in result.utterances] == [0, 1, 1, 1]


def test_the_kaldi_convention_folds_both_sides() -> None:
    reference = ["h#", "sh", "ix", "hv", "eh", "dcl", "jh", "ih", "q", "h#"]
    hypothesis = ["sil", "zh", "ih", "hh", "ae", "cl", "jh", "ih", "sil"]
    result = score([("u", "s", reference, hypothesis)], "kaldi")
    # sil sh ih hh eh sil jh ih sil against sil sh ih hh ae sil jh ih sil: one substitution, the glottal stop not counted.
    assert result.total == Counts(1, 0, 0, 9)
    assert score([("u", "s", reference, hypothesis)], "plain").total.reference_phones == 10


def test_the_kaldi_convention_keeps_runs_of_silence() -> None:
    assert score([("u", "s", ["pau", "h#"], ["h#"])], "kaldi").total == Counts(0, 1, 0, 2)
