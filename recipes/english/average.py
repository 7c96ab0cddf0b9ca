"""Average the weights of models, and fit the confidences of the average.

    python recipes/english/average.py OUT DEV_CUTS MODEL=WEIGHT [MODEL=WEIGHT ...] [--aligner TRAIN_CUTS]

The models must descend from each other by training (`init_from`); the average of unrelated ones recognizes nothing.
``--aligner`` trains an aligner. Without it the average has that of the first model, if that has one: an aligner depends on
the features and on where the phones are, not on the weights.
Source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from asr.errors import InputError
from asr.inference.bundle import load_bundle, save_bundle
from asr.inference.calibrate import calibrate
from asr.inference.evaluate import load_dataset
from asr.inference.forced_alignment import ALIGNER_FILE, save_aligner
from asr.scoring.calibration import save_calibration
from asr.training.frame_classifier import train_aligner

ALIGNER_EPOCHS, SEED = 8, 1
PADDING_MS = 250.0
"""Noise around each recording, without which more phones of recordings cut tightly are lost."""


def main(out: Path, dev: Path, parts: Sequence[str], train: Path | None) -> None:
    """Write the averaged model."""
    weighted = [parse(part) for part in parts]
    first = weighted[0][0]
    bundle = load_bundle(first, precision="float32")
    total = sum(weight for _, weight in weighted)
    state = {name: torch.zeros_like(tensor) for name, tensor in bundle.model.state_dict().items()}
    for path, weight in weighted:
        for name, tensor in load_bundle(path, precision="float32").model.state_dict().items():
            if name not in state or state[name].shape != tensor.shape:
                raise InputError(f"{path}: weight {name} {tuple(tensor.shape)}, expected the weights of {first}")
            state[name] += tensor * (weight / total)
    bundle.model.load_state_dict(state)
    bundle.features = replace(bundle.features, padding_ms=PADDING_MS)
    names = ", ".join(f"{weight:g} of {path}" for path, weight in weighted)
    save_bundle(bundle, out, f"# Averaged model\n\nWeights: {names}.\n")
    save_calibration(calibrate(bundle, load_dataset(bundle, dev)), out)
    if train is not None:
        save_aligner(train_aligner(bundle, load_dataset(bundle, train), ALIGNER_EPOCHS, SEED), out)
    elif (first / ALIGNER_FILE).exists():
        shutil.copy(first / ALIGNER_FILE, out)
    print(f"{out}: {names}")


def parse(part: str) -> tuple[Path, float]:
    """A model folder and its weight."""
    name, _, weight = part.rpartition("=")
    try:
        return Path(name), float(weight)
    except ValueError as error:
        raise InputError(f"{part}: {error}, expected MODEL=WEIGHT") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Average the weights of models.")
    parser.add_argument("out", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("parts", nargs="+", metavar="MODEL=WEIGHT")
    parser.add_argument("--aligner", type=Path, metavar="TRAIN_CUTS")
    arguments = parser.parse_args()
    try:
        main(arguments.out, arguments.dev, arguments.parts, arguments.aligner)
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
