"""Exported models (float32 and int8) against torch: seconds for the utterances of a manifest, one at a time, and PER.

    python -m benchmarks.onnx MODEL CUTS [--rounds 3]

MODEL is a model folder or a name from `asr models`. All systems turn samples in memory into log-probabilities. PER is that
of the best path under the model's scoring convention.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest
from asr.decoding.best_path import best_path
from asr.export.onnx import export_onnx
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import find_model
from asr.inference.recognizer import load
from asr.scoring.error_rate import score
from benchmarks.timing import build_parser, format_table, report_results, time_interleaved

Predictor = Callable[[np.ndarray], np.ndarray]
"""Samples (samples,) -> log-probabilities (frames, symbols)."""


def load_onnx(path: Path) -> Predictor:
    """Load an exported model."""
    session = onnxruntime.InferenceSession(path)

    def predict(samples: np.ndarray) -> np.ndarray:
        inputs = {"samples": samples[None], "num_samples": np.array([len(samples)])}
        log_probs: np.ndarray = session.run(["log_probs"], inputs)[0]
        return log_probs[0]

    return predict


def predict_all(predict: Predictor, signals: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run the model on one utterance at a time."""
    return [predict(samples) for samples in signals]


def error_rate(
    bundle: Bundle, predict: Predictor, utterances: Sequence[Utterance], signals: Sequence[np.ndarray]
) -> float:
    """Measure the PER of the best path under the model's scoring convention."""
    outputs = [torch.from_numpy(predict(samples))[None] for samples in signals]
    hypotheses = [
        bundle.inventory.decode(best_path(log_probs, torch.tensor([log_probs.shape[1]]))[0]) for log_probs in outputs
    ]
    pairs = [(u.id, u.speaker, u.phones, phones) for u, phones in zip(utterances, hypotheses, strict=True)]
    return score(pairs, bundle.convention).total.per


def main() -> None:
    """Export in both precisions, then time and score all systems."""
    parser = build_parser(__doc__)
    parser.add_argument("model", type=find_model)
    parser.add_argument("cuts", type=Path)
    args = parser.parse_args()
    bundle = load_bundle(args.model)
    utterances = read_manifest(args.cuts)
    signals = [read_audio(utterance.audio_path) for utterance in utterances]
    predictors: dict[str, Predictor] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("float32", "int8"):
            path = Path(folder) / f"{name}.onnx"
            sizes[f"onnxruntime, {name}"] = export_onnx(bundle, path, int8=name == "int8")
            predictors[f"onnxruntime, {name}"] = load_onnx(path)
    for name in ("float32", "int8"):
        recognizer = load(args.model, precision=name)
        predictors[f"torch, {name}"] = partial(recognizer.log_probs, sample_rate_hz=recognizer.sample_rate_hz)
    systems = {name: partial(predict_all, predict, signals) for name, predict in predictors.items()}
    seconds = time_interleaved(systems, args.rounds)
    rates = {name: error_rate(bundle, predict, utterances, signals) for name, predict in predictors.items()}
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
    print(format_table(["", "seconds", "times real time", "PER", "bytes"], rows))
    ratios = {f"{name} over torch, float32": seconds["torch, float32"] / seconds[name] for name in predictors}
    report_results(ratios, {"seconds": seconds, "PER": rates, "bytes": sizes}, args.json)


if __name__ == "__main__":
    main()
