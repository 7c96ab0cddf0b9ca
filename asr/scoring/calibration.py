"""Calibrated confidences: the probability that a recognized phone is correct.

In:  log-probabilities and the recognized phones. Out: a confidence from 0 to 1 for each phone.
A phone is aligned to its frames. Its confidence is its largest posterior there, from log-probabilities divided by a
temperature fitted on a dev set (Guo et al., "On calibration of modern neural networks", 2017). A recording whose mean
confidence is below that of nearly all dev recordings is unlike the speech that the model knows. ``confidence.yaml`` in the
model's folder holds both figures.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from asr.decoding.best_path import align_tokens
from asr.errors import InputError
from asr.system.files import write_text
from asr.system.plain_yaml import read_yaml

CONFIDENCE_FILE = "confidence.yaml"
TEMPERATURE_RANGE = (0.2, 20.0)
UNUSUAL_SHARE = 0.02
"""The share of dev recordings that count as unlike the dev set."""
MIN_PHONES = 5
"""Fewer recognized phones say too little about a recording."""


@dataclass(frozen=True)
class Calibration:
    """The temperature of confidences, and the lowest mean confidence of a usual recording, None if it is not known."""

    temperature: float = 1.0
    usual_confidence: float | None = None

    def is_unusual(self, confidences: Sequence[float]) -> bool:
        """Whether a recording with these confidences of its phones is unlike the speech that the model knows."""
        known = self.usual_confidence is not None and len(confidences) >= MIN_PHONES
        return known and float(np.mean(confidences)) < (self.usual_confidence or 0.0)


@dataclass(frozen=True)
class Evidence:
    """Natural-log probabilities (symbols,) at the peak of a recognized phone, and the phone's id."""

    log_probs: np.ndarray
    token: int

    def confidence(self, temperature: float) -> float:
        """The phone's posterior at a temperature."""
        scaled = self.log_probs / temperature
        return float(np.exp(scaled[self.token] - np.logaddexp.reduce(scaled)))


@dataclass(frozen=True)
class Bin:
    """Phones of similar confidence: their number, mean confidence, and the fraction that is correct."""

    count: int
    confidence: float
    correct: float


def evidence(
    log_probs: Tensor, tokens: Sequence[int], spans: Sequence[tuple[int, int]] | None = None
) -> list[Evidence]:
    """Collect the evidence for each recognized phone from (frames, symbols) natural-log probabilities and phone ids.

    ``spans`` are the phones' frames, if `align_tokens` has computed them already.
    """
    collected = []
    for token, (start, stop) in zip(tokens, align_tokens(log_probs, tokens) if spans is None else spans, strict=True):
        peak = start + int(log_probs[start:stop, token].argmax())
        collected.append(Evidence(log_probs[peak].double().cpu().numpy(), token))
    return collected


def fit_temperature(
    phones: Sequence[Evidence], correct: Sequence[bool], weights: Sequence[float] | None = None
) -> float:
    """Fit the temperature that minimizes the cross-entropy of the confidences; 1 if all phones are correct, or none.

    ``weights``, one for each phone, say how much it counts; without them all count the same.
    """
    if not any(correct) or all(correct):
        return 1.0
    from scipy.optimize import minimize_scalar  # not needed for transcription

    log_probs = np.stack([phone.log_probs for phone in phones])
    indices, tokens, is_correct = np.arange(len(phones)), [phone.token for phone in phones], np.array(correct)

    def cross_entropy(log_temperature: float) -> float:
        log_posteriors = torch.from_numpy(log_probs / np.exp(log_temperature)).log_softmax(1).numpy()[indices, tokens]
        log_complements = np.log(np.maximum(-np.expm1(log_posteriors), 1e-12))
        return -float(np.average(np.where(is_correct, log_posteriors, log_complements), weights=weights))

    best = minimize_scalar(cross_entropy, bounds=tuple(np.log(TEMPERATURE_RANGE)), method="bounded")
    return float(np.exp(best.x))


def reliability(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Group phones into bins of equal width by confidence; empty bins are left out."""
    indices = np.minimum((np.asarray(confidences) * bins).astype(int), bins - 1)
    confidence, is_correct = np.asarray(confidences), np.asarray(correct)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(is_correct[inside].mean()))
        for inside in (indices == index for index in range(bins))
        if inside.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error, a fraction: the mean absolute difference between confidence and accuracy over phones."""
    total = sum(group.count for group in bins)
    return sum(group.count * abs(group.confidence - group.correct) for group in bins) / total if total else 0.0


def usual_confidence(recordings: Sequence[Sequence[float]]) -> float | None:
    """The mean confidence that all but `UNUSUAL_SHARE` of these recordings reach; None without a recording long enough."""
    means = [float(np.mean(confidences)) for confidences in recordings if len(confidences) >= MIN_PHONES]
    return float(np.quantile(means, UNUSUAL_SHARE)) if means else None


def save_calibration(calibration: Calibration, model: Path) -> None:
    """Store the calibration in a model's folder."""
    values = {key: round(value, 4) for key, value in asdict(calibration).items() if value is not None}
    write_text(model / CONFIDENCE_FILE, OmegaConf.to_yaml(OmegaConf.create(values)))


def load_calibration(model: Path) -> Calibration | None:
    """Load the calibration from a model's folder; None if the folder has none.

    Raises:
        InputError: the file is damaged.
    """
    path = model / CONFIDENCE_FILE
    if not path.exists():
        return None
    values = read_yaml(path)
    temperature, usual = values.get("temperature"), values.get("usual_confidence")
    low, high = TEMPERATURE_RANGE
    if not isinstance(temperature, int | float) or not low <= temperature <= high:
        raise InputError(f"{path}: temperature {temperature!r}, expected {low} to {high}")
    if usual is not None and (not isinstance(usual, int | float) or not 0 <= usual <= 1):
        raise InputError(f"{path}: usual_confidence {usual!r}, expected 0 to 1")
    return Calibration(float(temperature), None if usual is None else float(usual))
