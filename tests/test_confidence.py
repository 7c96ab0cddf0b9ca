import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.decoding.best_path import align_tokens
from asr.errors import InputError
from asr.inference.calibrate import _choose
from asr.inference.catalog import find_model
from asr.inference.evaluate import mark_correct
from asr.inference.write_transcripts import UNUSUAL, write_transcripts
from asr.scoring.calibration import (
    MIN_PHONES,
    Calibration,
    Evidence,
    calibration_error,
    evidence,
    fit_temperature,
    load_calibration,
    reliability,
    save_calibration,
    usual_confidence,
)
from tests.test_invariance import speechlike


def paths_with(tokens: list[int], frames: int, symbols: int) -> list[tuple[int, ...]]:
    """Every path that collapses to the tokens: repeats merged, blanks removed."""
    return [
        path
        for path in itertools.product(range(symbols), repeat=frames)
        if [symbol for symbol, _ in itertools.groupby(path) if symbol] == tokens
    ]


@pytest.mark.parametrize("tokens", [[1], [2, 1], [1, 1], [2, 1, 2], []])
def test_the_alignment_is_the_best_of_all_paths(tokens: list[int]) -> None:
    log_probs = torch.randn(6, 3, generator=torch.Generator().manual_seed(len(tokens))).log_softmax(1)
    best = max(paths_with(tokens, 6, 3), key=lambda path: sum(float(log_probs[t, s]) for t, s in enumerate(path)))
    runs, start = [], 0
    for symbol, run in itertools.groupby(best):
        stop = start + len(list(run))
        runs += [(start, stop)] if symbol else []
        start = stop
    assert align_tokens(log_probs, tokens) == runs


def test_evidence_is_taken_where_a_phone_peaks() -> None:
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    phones = evidence(probabilities.log(), [1, 2])
    assert [phone.confidence(1.0) for phone in phones] == pytest.approx([0.8, 0.7])
    # At temperature 2, probabilities become their square roots, normalized.
    roots = np.sqrt([0.1, 0.8, 0.1])
    assert phones[0].confidence(2.0) == pytest.approx(roots[1] / roots.sum())


def test_each_phone_of_the_hypothesis_is_marked_correct_or_not() -> None:
    assert mark_correct(["a", "b", "c", "d"], ["a", "x", "c"]) == [True, False, True]
    assert mark_correct(["a"], ["x", "a", "y"]) == [False, True, False]
    assert mark_correct(["a"], []) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(temperature: float) -> None:
    generator = np.random.default_rng(4)
    logits = 3 * generator.standard_normal((20000, 5))
    truth = [generator.choice(5, p=np.exp(frame - np.logaddexp.reduce(frame))) for frame in logits]
    phones = [Evidence(frame - np.logaddexp.reduce(frame), int(frame.argmax())) for frame in temperature * logits]
    correct = [phone.token == reference for phone, reference in zip(phones, truth, strict=True)]
    assert fit_temperature(phones, correct) == pytest.approx(temperature, rel=0.05)
    bins = reliability([phone.confidence(temperature) for phone in phones], correct)
    assert calibration_error(bins) < 0.01
    if temperature != 1:
        assert calibration_error(reliability([phone.confidence(1.0) for phone in phones], correct)) > 0.02


def made_recordings(temperature: float, count: int, seed: int) -> list[tuple[list[Evidence], list[bool]]]:
    """Recordings of five phones each, whose confidences are right at a temperature."""
    generator = np.random.default_rng(seed)
    recordings = []
    for frames in 3 * generator.standard_normal((count, 5, 4)):
        log_probs = [temperature * frame - np.logaddexp.reduce(temperature * frame) for frame in frames]
        truth = [generator.choice(4, p=np.exp(frame - np.logaddexp.reduce(frame))) for frame in frames]
        phones = [Evidence(frame, int(frame.argmax())) for frame in log_probs]
        recordings.append((phones, [phone.token == right for phone, right in zip(phones, truth, strict=True)]))
    return recordings


def test_each_set_counts_the_same_however_large_it_is() -> None:
    sharp, soft = made_recordings(3.0, 400, seed=1), made_recordings(1.0, 400, seed=2)
    assert _choose([sharp]).temperature == pytest.approx(3.0, rel=0.1)
    assert _choose([soft]).temperature == pytest.approx(1.0, rel=0.1)
    both = _choose([sharp, soft]).temperature
    assert 1.2 < both < 2.8
    assert _choose([sharp * 9, soft]).temperature == pytest.approx(both, rel=1e-3)
    assert _choose([sharp, soft, [([], [])]]).temperature == pytest.approx(both, rel=1e-3)
    assert _choose([sharp + soft * 9]).temperature < both - 0.1


def test_the_first_set_says_what_is_usual() -> None:
    sharp, soft = made_recordings(3.0, 100, seed=1), made_recordings(1.0, 100, seed=2)
    one, other = _choose([sharp, soft]), _choose([soft, sharp])
    assert one.temperature == pytest.approx(other.temperature, rel=1e-3)
    assert one.usual_confidence == usual_confidence(
        [[phone.confidence(one.temperature) for phone in phones] for phones, _ in sharp]
    )
    assert one.usual_confidence != other.usual_confidence


def test_nothing_to_choose_a_temperature_by() -> None:
    phones = [Evidence(np.log([0.5, 0.5]), 1)] * 3
    assert fit_temperature([], []) == fit_temperature(phones, [True] * 3) == fit_temperature(phones, [False] * 3) == 1.0


def test_bins_worked_by_hand() -> None:
    bins = reliability([0.05, 0.15, 0.19, 1.0], [False, True, False, True])
    assert [(group.count, group.confidence, group.correct) for group in bins] == [
        (1, pytest.approx(0.05), 0),
        (2, pytest.approx(0.17), 0.5),
        (1, 1, 1),
    ]
    assert calibration_error(bins) == pytest.approx((0.05 + 2 * 0.33) / 4)
    assert calibration_error([]) == 0


def test_a_recording_is_unusual_below_what_nearly_all_reach() -> None:
    means = np.linspace(0.5, 1.0, 101)
    usual = usual_confidence([*([mean] * 5 for mean in means), [0.0] * 4])  # the last has too few phones to count
    assert usual == pytest.approx(0.51)
    calibration = Calibration(1.0, usual)
    assert calibration.is_unusual([0.4, 0.6, 0.5, 0.5, 0.5])
    assert not calibration.is_unusual([0.6, 0.6, 0.5, 0.5, 0.5])
    assert not calibration.is_unusual([0.1] * 4)
    assert not Calibration().is_unusual([0.1] * 5)
    assert usual_confidence([[0.5] * 4, []]) is None


@pytest.mark.parametrize(("usual", "said"), [(0.9999, 1), (0.0001, 0)])
def test_transcribing_says_when_a_recording_is_unusual(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], usual: float, said: int
) -> None:
    shutil.copytree(find_model("speechocean762-small"), tmp_path / "model")
    save_calibration(Calibration(1.0, usual), tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", speechlike(12, 0), 16000)
    done = write_transcripts(
        tmp_path / "model", [str(tmp_path / "a.wav")], ["text"], None, None, False, ("cpu", "float32", "best_path")
    )
    assert done == (0, 1)
    printed = capsys.readouterr()
    assert len(printed.out.split()) > MIN_PHONES
    assert printed.err.count(f"asr: {tmp_path / 'a.wav'}: {UNUSUAL}\n") == said


def test_the_calibration_is_stored_in_the_models_folder(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None
    save_calibration(Calibration(1.28199, 0.67121), tmp_path)
    assert load_calibration(tmp_path) == Calibration(1.282, 0.6712)
    save_calibration(Calibration(1.28199), tmp_path)
    assert load_calibration(tmp_path) == Calibration(1.282, None)
    (tmp_path / "confidence.yaml").write_text("temperature: 1.0\nusual_confidence: high\n")
    with pytest.raises(InputError, match=r"usual_confidence 'high', expected 0 to 1"):
        load_calibration(tmp_path)
    for damage in ("temperature: -1", "temperature: warm", "{}"):
        (tmp_path / "confidence.yaml").write_text(damage)
        with pytest.raises(InputError, match=r"confidence.yaml: temperature .*, expected 0.2 to 20.0"):
            load_calibration(tmp_path)
