"""An exported model against torch: seconds for the utterances of a manifest, one after the other, and what 8 bits cost.

    python -m benchmarks.onnx MODEL CUTS [--rounds 3]

MODEL is a model folder or a name of `asr models`. All take samples from memory and give log-probabilities; PER is of
the best path under the model's convention.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from asr.corpus.audio import read_audio
from asr.corpus.manifest import read_manifest
from asr.decoding.best_path import best_path
from asr.export.onnx import export_onnx
from asr.inference.bundle import load_bundle
from asr.inference.catalog import find_model
from asr.inference.recognizer import load
from asr.scoring.error_rate import score
from benchmarks.timing import finish, interleave, parser, table

Predictor = Callable[[np.ndarray], np.ndarray]
"""Samples (samples,) -> log-probabilities (frames, symbols)."""


def session(path: Path) -> Predictor:
    """An exported model."""
    loaded = onnxruntime.InferenceSession(path)

    def predict(samples: np.ndarray) -> np.ndarray:
        inputs = {"samples": samples[None], "num_samples": np.array([len(samples)])}
        found: np.ndarray = loaded.run(["log_probs"], inputs)[0]
        return found[0]

    return predict


def predict_all(predict: Predictor, signals: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One after the other."""
    return [predict(samples) for samples in signals]


def main() -> None:
    """Export twice, time all, score all."""
    options = parser(__doc__)
    options.add_argument("model", type=find_model)
    options.add_argument("cuts", type=Path)
    chosen = options.parse_args()
    bundle = load_bundle(chosen.model)
    utterances = read_manifest(chosen.cuts)
    signals = [read_audio(utterance.audio_path) for utterance in utterances]
    predictors: dict[str, Predictor] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("float32", "int8"):
            path = Path(folder) / f"{name}.onnx"
            sizes[f"onnxruntime, {name}"] = export_onnx(bundle, path, int8=name == "int8")
            predictors[f"onnxruntime, {name}"] = session(path)
    for name in ("float32", "int8"):
        recognizer = load(chosen.model, precision=name)
        predictors[f"torch, {name}"] = partial(recognizer.log_probs, sample_rate_hz=recognizer.sample_rate_hz)
    contenders = {name: partial(predict_all, predict, signals) for name, predict in predictors.items()}
    seconds = interleave(contenders, chosen.rounds)
    rates = {}
    for name, predict in predictors.items():
        found = [torch.from_numpy(predict(one))[None] for one in signals]
        heard = [bundle.inventory.decode(best_path(one, torch.tensor([one.shape[1]]))[0]) for one in found]
        scored = [(u.id, u.speaker, u.phones, phones) for u, phones in zip(utterances, heard, strict=True)]
        rates[name] = score(scored, bundle.convention).total.per
    audio_s = sum(map(len, signals)) / bundle.features.sample_rate_hz
    rows = [
        [
            name,
            f"{seconds[name]:.2f}",
            f"{audio_s / seconds[name]:.0f}",
            f"{rates[name]:.2%}",
            f"{sizes.get(name, 0):,}",
        ]
        for name in predictors
    ]
    print(f"{len(signals)} utterances, {audio_s:.0f} s of audio")
    print(table(["", "seconds", "times real time", "PER", "bytes"], rows))
    ratios = {f"{name} over torch, float32": seconds["torch, float32"] / seconds[name] for name in predictors}
    finish(ratios, {"seconds": seconds, "PER": rates, "bytes": sizes}, chosen.json)


if __name__ == "__main__":
    main()
