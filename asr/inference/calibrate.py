"""Dev sets -> the calibration of a model's confidences (`asr.scoring.calibration`)."""

from collections.abc import Sequence
from pathlib import Path

from asr.features.dataset import Dataset
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import refuse_bundled
from asr.inference.evaluate import load_dataset, mark_correct_by_id, recognize_with_evidence
from asr.scoring.calibration import (
    CONFIDENCE_FILE,
    Calibration,
    Evidence,
    calibration_error,
    fit_temperature,
    reliability,
    save_calibration,
    usual_confidence,
)
from asr.system.files import check_writable

Recordings = list[tuple[list[Evidence], list[bool]]]
"""The recognized phones of each recording, and which of them are correct."""


def calibrate(bundle: Bundle, dev: Dataset) -> Calibration:
    """Choose the temperature of confidences that fits the best paths of a dev set, and what is usual there."""
    return _choose([_recognize(bundle, dev)])


def calibrate_model(
    model: Path, manifests: Sequence[Path], device: str = "cpu"
) -> tuple[Calibration, list[float | None]]:
    """Calibrate a model on dev sets and save the calibration in its folder.

    Each set has the same weight in the choice of the temperature. What is usual is what the first set has. Returns also the
    expected calibration error on each set, a fraction, None if no phone was recognized.

    Raises:
        InputError: the bundle or a manifest cannot be used; the model ships with the package, or its folder cannot be
            written.
    """
    refuse_bundled(model)
    check_writable(model / CONFIDENCE_FILE)
    bundle = load_bundle(model, device, "auto")
    datasets = [load_dataset(bundle, cuts) for cuts in manifests]
    sets = [_recognize(bundle, dataset) for dataset in datasets]
    calibration = _choose(sets)
    save_calibration(calibration, model)
    return calibration, [_error(recordings, calibration.temperature) for recordings in sets]


def _recognize(bundle: Bundle, dataset: Dataset) -> Recordings:
    results = recognize_with_evidence(bundle, dataset)
    correct = mark_correct_by_id(bundle, dataset, {name: tokens for name, (tokens, _) in results.items()})
    return [(phones, correct[name]) for name, (_, phones) in results.items()]


def _choose(sets: Sequence[Recordings]) -> Calibration:
    phones = [phone for recordings in sets for found, _ in recordings for phone in found]
    correct = [is_correct for recordings in sets for _, marks in recordings for is_correct in marks]
    weights = [1 / count for recordings in sets if (count := _count(recordings)) for _ in range(count)]
    temperature = fit_temperature(phones, correct, weights)
    return Calibration(temperature, usual_confidence([_confidences(found, temperature) for found, _ in sets[0]]))


def _count(recordings: Recordings) -> int:
    return sum(len(marks) for _, marks in recordings)


def _confidences(phones: Sequence[Evidence], temperature: float) -> list[float]:
    return [phone.confidence(temperature) for phone in phones]


def _error(recordings: Recordings, temperature: float) -> float | None:
    if not _count(recordings):
        return None
    confidences = [value for phones, _ in recordings for value in _confidences(phones, temperature)]
    return calibration_error(reliability(confidences, [mark for _, marks in recordings for mark in marks]))
