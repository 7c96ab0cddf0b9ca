"""CTC losses and gradients of real training batches against the second implementation, `tests.faults.ctc_reference`.

    python -m tests.faults.ctc_numbers CORPUS_DIR MODEL [--batches 200]

Batches are those of a training on the folder's ``cuts_train.jsonl.gz``, with its sizes, speeds and masks. A model, given by
its folder or name, makes log-probabilities of them in float32; gradients are those of its output layer, before the
softmax. Exits with 1 where one is farther apart than float32 explains.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.cli.compose import compose
from asr.config import TrainConfig
from asr.corpus.manifest import read_manifest
from asr.features.dataset import Batch, Dataset, plan_training
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import find_model
from asr.nn.ctc import ctc_loss
from tests.faults.ctc_reference import loss_and_gradient

FLOAT32 = float(np.finfo(np.float32).eps)
LOSS_TOLERANCE = 1e-5
"""Relative. Sums over some hundred frames are rounded at each: less than 100 times 1.2e-7, as roundings go both ways."""


def gradient_tolerance(loss: float) -> float:
    """Absolute, of probabilities: exp(alpha + beta - likelihood), where each is as large as the loss and rounded so."""
    return 16 * FLOAT32 * max(1.0, loss)


@dataclass
class Compared:
    """How much was compared, and how far apart at most: losses relative, gradients absolute and as parts of tolerances."""

    batches: int = 0
    utterances: int = 0
    infeasible: int = 0
    frames: int = 0
    loss: float = 0.0
    gradient: float = 0.0
    gradient_part: float = 0.0

    @property
    def agree(self) -> bool:
        """Whether everything is as near as float32 allows."""
        return self.loss <= LOSS_TOLERANCE and self.gradient_part <= 1


def training_batches(dataset: Dataset, config: TrainConfig) -> Iterator[Batch]:
    """The batches of a training, epoch after epoch."""
    durations, trainer = [utterance.duration_s for utterance in dataset.utterances], config.trainer
    epoch = 0
    while True:
        seed = (config.seed, epoch)
        plan = plan_training(durations, config.augment.speeds, trainer.batch_seconds, trainer.batch_utterances, seed)
        yield from dataset.batches(plan, config.augment, seed)
        epoch += 1


def compare(bundle: Bundle, batch: Batch, found: Compared) -> None:
    """Add one batch to what was found."""
    with torch.no_grad():
        log_probs, lengths = bundle.log_probs(batch.features, batch.feature_lengths)
    # Log-probabilities are logits of themselves: their softmax are the probabilities they stand for.
    logits = log_probs.clone().requires_grad_()
    losses, feasible = ctc_loss(logits.log_softmax(dim=2), lengths, batch.tokens, batch.token_lengths)
    losses.sum().backward()
    assert logits.grad is not None
    found.batches += 1
    for row, (length, labels) in enumerate(zip(lengths.tolist(), batch.token_lengths.tolist(), strict=True)):
        exact = log_probs[row, :length].double().log_softmax(dim=1).numpy()
        loss, gradient = loss_and_gradient(exact, batch.tokens[row, :labels].numpy())
        assert bool(feasible[row]) == np.isfinite(loss), f"{batch.ids[row]}: which labels fit is not agreed on"
        found.utterances += 1
        if not feasible[row]:
            found.infeasible += 1
            continue
        found.frames += length
        # Through the softmax, which adds each probability, as a frame's gradients sum to -1.
        apart = np.abs(logits.grad[row, :length].numpy() - (gradient + np.exp(exact))).max(initial=0.0)
        found.loss = max(found.loss, abs(float(losses[row].detach()) - loss) / max(1.0, loss))
        found.gradient = max(found.gradient, float(apart))
        found.gradient_part = max(found.gradient_part, float(apart) / gradient_tolerance(loss))


def check(corpus: Path, model: str, batches: int, overrides: Sequence[str] = ()) -> Compared:
    """Compare on so many training batches of a corpus."""
    bundle, config = (
        load_bundle(find_model(model)),
        compose(["experiment=speechocean762", "run_dir=unused", *overrides]),
    )
    utterances = read_manifest(corpus / "cuts_train.jsonl.gz")
    dataset = Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0, statistics=bundle.statistics)
    found = Compared()
    for _, batch in zip(range(batches), training_batches(dataset, config), strict=False):
        compare(bundle, batch, found)
    return found


def main() -> None:
    """Compare, and print how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, default=200)
    chosen = parser.parse_args()
    found = check(chosen.corpus, chosen.model, chosen.batches)
    what = f"{found.batches} batches, {found.utterances} utterances, {found.frames} frames"
    print(f"{what}, {found.infeasible} utterances whose labels do not fit")
    print(f"losses: relative difference at most {found.loss:.2g}, tolerance {LOSS_TOLERANCE:g}")
    print(f"gradients: absolute difference at most {found.gradient:.2g}, {found.gradient_part:.0%} of the tolerance")
    if not found.agree:
        raise SystemExit("farther apart than float32 explains")


if __name__ == "__main__":
    main()
