"""Compare CTC losses and gradients on real training batches with the reference, `tests.faults.ctc_reference`.

    python -m tests.faults.ctc_numbers CORPUS_DIR MODEL [--batches 200]

The batches are those of a training on the folder's ``cuts_train.jsonl.gz``, with its batch sizes, speeds and masks. The
model, a folder or a name, computes the log-probabilities in float32. Gradients are with respect to its outputs before the
softmax. Exits with 1 if a difference is larger than float32 explains.
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
"""Relative. Sums over a few hundred frames round at each; errors partly cancel, so less than 100 times 1.2e-7 remains."""


def gradient_tolerance(loss: float) -> float:
    """Return the absolute tolerance: each term of exp(alpha + beta - likelihood) is rounded at the size of the loss."""
    return 16 * FLOAT32 * max(1.0, loss)


@dataclass
class Comparison:
    """Counts, and the largest differences: losses relative, gradients absolute and as shares of the tolerance."""

    batches: int = 0
    utterances: int = 0
    infeasible: int = 0
    frames: int = 0
    loss: float = 0.0
    gradient: float = 0.0
    gradient_share: float = 0.0

    @property
    def agree(self) -> bool:
        """Whether all differences are within the tolerances."""
        return self.loss <= LOSS_TOLERANCE and self.gradient_share <= 1


def training_batches(dataset: Dataset, config: TrainConfig) -> Iterator[Batch]:
    """Yield the batches of a training, epoch after epoch."""
    durations, trainer = [utterance.duration_s for utterance in dataset.utterances], config.trainer
    epoch = 0
    while True:
        seed = (config.seed, epoch)
        plan = plan_training(durations, config.augment.speeds, trainer.batch_seconds, trainer.batch_utterances, seed)
        yield from dataset.batches(plan, config.augment, seed)
        epoch += 1


def compare(bundle: Bundle, batch: Batch, result: Comparison) -> None:
    """Add one batch to the comparison."""
    with torch.no_grad():
        log_probs, lengths = bundle.log_probs(batch.features, batch.feature_lengths)
    # Log-probabilities can serve as logits: their softmax gives the same probabilities.
    logits = log_probs.clone().requires_grad_()
    losses, feasible = ctc_loss(logits.log_softmax(dim=2), lengths, batch.tokens, batch.token_lengths)
    losses.sum().backward()
    assert logits.grad is not None
    result.batches += 1
    for index, (length, labels) in enumerate(zip(lengths.tolist(), batch.token_lengths.tolist(), strict=True)):
        exact = log_probs[index, :length].double().log_softmax(dim=1).numpy()
        loss, gradient = loss_and_gradient(exact, batch.tokens[index, :labels].numpy())
        assert bool(feasible[index]) == np.isfinite(loss), f"{batch.ids[index]}: only one implementation has a path"
        result.utterances += 1
        if not feasible[index]:
            result.infeasible += 1
            continue
        result.frames += length
        # The gradient through the softmax adds the probability, since each frame's gradients sum to -1.
        difference = np.abs(logits.grad[index, :length].numpy() - (gradient + np.exp(exact))).max(initial=0.0)
        result.loss = max(result.loss, abs(float(losses[index].detach()) - loss) / max(1.0, loss))
        result.gradient = max(result.gradient, float(difference))
        result.gradient_share = max(result.gradient_share, float(difference) / gradient_tolerance(loss))


def check(corpus: Path, model: str, batches: int, overrides: Sequence[str] = ()) -> Comparison:
    """Compare on ``batches`` training batches of a corpus."""
    bundle = load_bundle(find_model(model))
    config = compose(["experiment=speechocean762", "run_dir=unused", *overrides])
    utterances = read_manifest(corpus / "cuts_train.jsonl.gz")
    dataset = Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0, statistics=bundle.statistics)
    result = Comparison()
    for _, batch in zip(range(batches), training_batches(dataset, config), strict=False):
        compare(bundle, batch, result)
    return result


def main() -> None:
    """Compare and print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, default=200)
    args = parser.parse_args()
    result = check(args.corpus, args.model, args.batches)
    counts = f"{result.batches} batches, {result.utterances} utterances, {result.frames} frames"
    print(f"{counts}, {result.infeasible} utterances with more labels than fit")
    print(f"losses: relative difference at most {result.loss:.2g}, tolerance {LOSS_TOLERANCE:g}")
    print(f"gradients: absolute difference at most {result.gradient:.2g}, {result.gradient_share:.0%} of the tolerance")
    if not result.agree:
        raise SystemExit("differences larger than float32 explains")


if __name__ == "__main__":
    main()
