import itertools
import re
import subprocess
from pathlib import Path

import jiwer
import numpy as np
import pytest

from asr.corpus.phones import timit_folding
from asr.errors import InputError
from asr.scoring.alignment import Counts, align, count_errors
from asr.scoring.conventions import conventions_for
from asr.scoring.error_rate import Score, confidence_interval, score
from tests.faults.fuzz import limits


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


def test_errors_are_the_edit_distance_but_for_few_pairs() -> None:
    generator, excess = np.random.default_rng(0), 0
    for _ in range(1000):
        reference, hypothesis = ([str(p) for p in generator.integers(0, 4, generator.integers(0, 9))] for _ in range(2))
        counts = count_errors(reference, hypothesis)
        assert len(hypothesis) == len(reference) - counts.deletions + counts.insertions
        assert counts.errors >= edit_distance(reference, hypothesis)
        excess += counts.errors - edit_distance(reference, hypothesis)
        if reference and counts.errors == edit_distance(reference, hypothesis):
            assert counts.per == pytest.approx(jiwer.wer(" ".join(reference), " ".join(hypothesis)))
    assert excess <= 10


@pytest.mark.parametrize("optional", [False, True])
def test_counts_are_those_of_sclite(optional: bool, sctk: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    pairs = []
    for _ in range(1000):
        phones = ["sil", *(f"p{number}" for number in range(generator.integers(1, 8)))]
        pairs.append([[phones[i] for i in generator.integers(0, len(phones), generator.integers(0, 13))] for _ in "rh"])
    pairs += [[[], []], [["a"], []], [[], ["a"]], [["a"] * 200, ["a"] * 150], [["sil"] * 5, ["sil"]]]
    for side, name in enumerate(("reference", "hypothesis")):
        lines = []
        for number, pair in enumerate(pairs):
            words = ["(sil)" if optional and side == 0 and phone == "sil" else phone for phone in pair[side]]
            lines.append(f"{' '.join(words)} (s{number % 7}-{number})\n")
        (tmp_path / f"{name}.trn").write_text("".join(lines))
    options = "-r reference.trn trn -h hypothesis.trn trn -i spu_id -s -o pralign stdout" + " -D" * optional
    printed = subprocess.run(
        [str(sctk / "sclite"), *options.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    ids = re.findall(r"^id: \(s\d-(\d+)\)", printed, re.MULTILINE)
    counts = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", printed)
    assert sorted(map(int, ids)) == list(range(len(pairs)))
    for number, (c, s, d, i) in zip(map(int, ids), [map(int, scores) for scores in counts], strict=True):
        free = {"sil"} if optional else set()
        assert count_errors(pairs[number][0], pairs[number][1], free) == Counts(s, d, i, c + s + d), pairs[number]


def test_an_alignment_step_by_step() -> None:
    edits = align(["sil", "a", "b"], ["b", "c"], {"sil"})
    assert [tuple(edit) for edit in edits] == [(0, "sil", None), (2, "a", None), (0, "b", "b"), (3, None, "c")]


def test_an_utterance_too_long_to_align_is_refused() -> None:
    phones = ["a"] * 2**15
    message = "32768 reference and 32768 hypothesis phones in one utterance, expected fewer than 16384 each"
    with limits(), pytest.raises(InputError, match=message):
        align(phones, phones)
    assert count_errors(phones, phones[:7]) == Counts(0, 2**15 - 7, 0, 2**15)


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
    assert [utterance.counts.errors for utterance in result.utterances] == [0, 1, 1, 1]


def test_the_kaldi_convention_folds_both_sides() -> None:
    reference = ["h#", "sh", "ix", "hv", "eh", "dcl", "jh", "ih", "q", "h#"]
    hypothesis = ["sil", "zh", "ih", "hh", "ae", "cl", "jh", "ih", "sil"]
    result = score([("u", "s", reference, hypothesis)], "kaldi")
    # sil sh ih hh eh sil jh ih sil against sil sh ih hh ae sil jh ih sil: one substitution, the glottal stop not counted.
    assert result.total == Counts(1, 0, 0, 9)
    assert score([("u", "s", reference, hypothesis)], "plain").total.reference_phones == 10


def test_the_kaldi_convention_keeps_runs_of_silence() -> None:
    assert score([("u", "s", ["pau", "h#"], ["h#"])], "kaldi").total == Counts(0, 1, 0, 2)


REFERENCE = ["h#", "sh", "ix", "pau", "bcl", "b", "q", "h#"]
HYPOTHESIS = ["h#", "h#", "sh", "ih", "b", "h#"]


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        # sil sh ih sil sil b sil against sil sil sh ih b sil
        ("kaldi", Counts(0, 2, 1, 7)),
        # the same, without errors for two missing silences of the reference
        ("optional-sil", Counts(0, 0, 1, 7)),
        # sil sh ih sil b sil against sil sh ih b sil
        ("merged-sil", Counts(0, 1, 0, 6)),
        # sh ih b against the same
        ("no-sil", Counts(0, 0, 0, 3)),
        # unfolded: ix recognized as ih; pau, bcl and q missing; h# twice
        ("61", Counts(1, 3, 1, 8)),
    ],
)
def test_conventions_worked_by_hand(convention: str, expected: Counts) -> None:
    assert score([("u", "s", REFERENCE, HYPOTHESIS)], convention).total == expected


def test_every_convention_is_for_some_headline() -> None:
    all_61 = timit_folding().keys()
    assert conventions_for("plain", all_61) == ["plain"]
    assert conventions_for("kaldi", all_61) == ["kaldi", "optional-sil", "merged-sil", "no-sil", "61"]
    assert conventions_for("no-sil", {"sil"}) == ["no-sil", "kaldi", "optional-sil", "merged-sil"]


def test_a_phone_that_a_convention_does_not_know_is_named_with_its_utterance() -> None:
    with pytest.raises(InputError, match="utterance u7: unknown TIMIT phone 'xx', expected one of the 61, 48 or 39"):
        score([("u7", "s", ["xx"], [])], "kaldi")
    with pytest.raises(InputError, match="utterance u7: unknown TIMIT phone 'sil', expected one of the 61"):
        score([("u7", "s", ["sil"], [])], "61")


def result_of(errors: list[tuple[int, int]]) -> Score:
    utterances = [
        (f"u{number}", f"s{number}", ["a"] * phones, ["b"] * wrong + ["a"] * (phones - wrong))
        for number, (wrong, phones) in enumerate(errors)
    ]
    return score(utterances, "plain")


def test_the_interval_is_that_of_all_sets_of_speakers() -> None:
    # Three speakers: 27 ordered draws with replacement give few distinct rates; the percentiles are among them.
    errors = [(0, 10), (5, 10), (10, 10)]
    interval = confidence_interval(result_of(errors), resamples=20000)
    draws = sorted(sum(wrong for wrong, _ in draw) / 30 for draw in itertools.product(errors, repeat=3))
    assert interval == pytest.approx((draws[0], draws[-1]))
    many = [(number % 3, 10) for number in range(60)]
    low, high = confidence_interval(result_of(many)) or (1, 0)
    spread = np.std([wrong / 10 for wrong, _ in many]) / np.sqrt(60)
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    assert confidence_interval(result_of(many)) == (low, high)


def test_no_interval_where_there_is_none() -> None:
    assert confidence_interval(result_of([(1, 10)])) is None
    assert confidence_interval(score([], "plain")) is None
    assert confidence_interval(score([("u", "s", [], ["a"]), ("v", "t", [], [])], "plain")) is None
