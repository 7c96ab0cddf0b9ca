"""How sure the model is of each phone it recognized: a probability that is right as often as it says.

A phone is aligned to its frames; its confidence is the largest posterior there, of log-probabilities divided by a
temperature that was chosen on a dev set (Guo et al., "On calibration of modern neural networks", 2017). The temperature
stands in ``confidence.yaml`` in the model's folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from asr.decoding.best_path import align_tokens
from asr.errors import InputError
from asr.system.files import write_text
from asr.system.plain_yaml import read_yaml

FILE = "confidence.yaml"
TEMPERATURES = (0.2, 20.0)


@dataclass(frozen=True)
class Evidence:
    """What the model says where one recognized phone peaks: (symbols,) natural-log probabilities, and the phone's id."""

    log_probs: np.ndarray
    token: int

    def confidence(self, temperature: float) -> float:
        """The phone's posterior at a temperature."""
        scaled = self.log_probs / temperature
        return float(np.exp(scaled[self.token] - np.logaddexp.reduce(scaled)))


@dataclass(frozen=True)
class Bin:
    """Phones of like confidence: how many, their mean confidence, and the fraction that is right."""

    count: int
    confidence: float
    correct: float


def evidence(
    log_probs: Tensor, tokens: Sequence[int], spans: Sequence[tuple[int, int]] | None = None
) -> list[Evidence]:
    """The evidence for each recognized phone, from (frames, symbols) natural-log probabilities and the phones' ids.

    ``spans`` are their frames, where `align_tokens` has found them before.
    """
    found = []
    for token, (start, stop) in zip(tokens, align_tokens(log_probs, tokens) if spans is None else spans, strict=True):
        peak = start + int(log_probs[start:stop, token].argmax())
        found.append(Evidence(log_probs[peak].double().cpu().numpy(), token))
    return found


def fit_temperature(found: Sequence[Evidence], correct: Sequence[bool]) -> float:
    """The temperature whose confidences have the least cross-entropy; 1 where there is nothing to choose it by."""
    if not any(correct) or all(correct):
        return 1.0
    from scipy.optimize import minimize_scalar  # which transcribing can do without

    log_probs = np.stack([one.log_probs for one in found])
    rows, tokens, right = np.arange(len(found)), [one.token for one in found], np.array(correct)

    def cross_entropy(log_temperature: float) -> float:
        scaled = torch.from_numpy(log_probs / np.exp(log_temperature)).log_softmax(1).numpy()[rows, tokens]
        wrong = np.log(np.maximum(-np.expm1(scaled), 1e-12))
        return -float(np.where(right, scaled, wrong).mean())

    best = minimize_scalar(cross_entropy, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(best.x))


def reliability(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Phones by tenths of confidence; empty ones are left out."""
    place = np.minimum((np.asarray(confidences) * bins).astype(int), bins - 1)
    sure, right = np.asarray(confidences), np.asarray(correct)
    return [
        Bin(int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: by how much confidence and accuracy differ, a mean over phones."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.correct) for one in bins) / total if total else 0.0


def save_temperature(temperature: float, model: Path) -> None:
    """Write the temperature into a model's folder."""
    write_text(model / FILE, OmegaConf.to_yaml(OmegaConf.create({"temperature": round(temperature, 4)})))


def load_temperature(model: Path) -> float | None:
    """The temperature in a model's folder, None where nobody chose one.

    Raises:
        InputError: the file is damaged.
    """
    path = model / FILE
    if not path.exists():
        return None
    found = read_yaml(path).get("temperature")
    low, high = TEMPERATURES
    if not isinstance(found, int | float) or not low <= found <= high:
        raise InputError(f"{path}: temperature {found!r}, expected {low} to {high}")
    return float(found)
