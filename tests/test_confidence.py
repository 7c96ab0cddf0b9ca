import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.decoding.best_path import align_tokens
from asr.errors import InputError
from asr.inference.evaluate import correctness
from asr.scoring.calibration import (
    Evidence,
    calibration_error,
    evidence,
    fit_temperature,
    load_temperature,
    reliability,
    save_temperature,
)


def paths_that_say(tokens: list[int], frames: int, symbols: int) -> list[tuple[int, ...]]:
    """Every path whose repeats merge and whose blanks vanish to the tokens."""
    return [
        path
        for path in itertools.product(range(symbols), repeat=frames)
        if [one for one, _ in itertools.groupby(path) if one] == tokens
    ]


@pytest.mark.parametrize("tokens", [[1], [2, 1], [1, 1], [2, 1, 2], []])
def test_the_alignment_is_the_best_of_all_paths(tokens: list[int]) -> None:
    log_probs = torch.randn(6, 3, generator=torch.Generator().manual_seed(len(tokens))).log_softmax(1)
    best = max(paths_that_say(tokens, 6, 3), key=lambda path: sum(float(log_probs[t, s]) for t, s in enumerate(path)))
    runs, start = [], 0
    for symbol, run in itertools.groupby(best):
        stop = start + len(list(run))
        runs += [(start, stop)] if symbol else []
        start = stop
    assert align_tokens(log_probs, tokens) == runs


def test_evidence_is_taken_where_a_phone_peaks() -> None:
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    found = evidence(probabilities.log(), [1, 2])
    assert [one.confidence(1.0) for one in found] == pytest.approx([0.8, 0.7])
    # At temperature 2 probabilities become their square roots, normalized.
    roots = np.sqrt([0.1, 0.8, 0.1])
    assert found[0].confidence(2.0) == pytest.approx(roots[1] / roots.sum())


def test_what_is_right_is_told_for_each_phone_of_the_hypothesis() -> None:
    assert correctness(["a", "b", "c", "d"], ["a", "x", "c"]) == [True, False, True]
    assert correctness(["a"], ["x", "a", "y"]) == [False, True, False]
    assert correctness(["a"], []) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(temperature: float) -> None:
    generator = np.random.default_rng(4)
    logits = 3 * generator.standard_normal((20000, 5))
    truth = [generator.choice(5, p=np.exp(row - np.logaddexp.reduce(row))) for row in logits]
    seen = [Evidence(row - np.logaddexp.reduce(row), int(row.argmax())) for row in temperature * logits]
    correct = [one.token == said for one, said in zip(seen, truth, strict=True)]
    assert fit_temperature(seen, correct) == pytest.approx(temperature, rel=0.05)
    bins = reliability([one.confidence(temperature) for one in seen], correct)
    assert calibration_error(bins) < 0.01
    if temperature != 1:
        assert calibration_error(reliability([one.confidence(1.0) for one in seen], correct)) > 0.02


def test_nothing_to_choose_a_temperature_by() -> None:
    seen = [Evidence(np.log([0.5, 0.5]), 1)] * 3
    assert fit_temperature([], []) == fit_temperature(seen, [True] * 3) == fit_temperature(seen, [False] * 3) == 1.0


def test_bins_worked_by_hand() -> None:
    bins = reliability([0.05, 0.15, 0.19, 1.0], [False, True, False, True])
    assert [(one.count, one.confidence, one.correct) for one in bins] == [
        (1, pytest.approx(0.05), 0),
        (2, pytest.approx(0.17), 0.5),
        (1, 1, 1),
    ]
    assert calibration_error(bins) == pytest.approx((0.05 + 2 * 0.33) / 4)
    assert calibration_error([]) == 0


def test_the_temperature_lies_in_the_models_folder(tmp_path: Path) -> None:
    assert load_temperature(tmp_path) is None
    save_temperature(1.28199, tmp_path)
    assert load_temperature(tmp_path) == 1.282
    for damage in ("temperature: -1", "temperature: warm", "{}"):
        (tmp_path / "confidence.yaml").write_text(damage)
        with pytest.raises(InputError, match=r"confidence.yaml: temperature .*, expected 0.2 to 20.0"):
            load_temperature(tmp_path)
