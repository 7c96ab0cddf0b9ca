"""Numbers that are not finite, said in one line that names the cause.

NaN spreads: one weight that is no number makes every loss so, bad features those of their utterance. The cause is looked
for once a loss is not finite, and costs other steps nothing.
"""

import math

import torch
from torch import Tensor, nn

from asr.errors import TrainingError
from asr.features.dataset import Batch
from asr.training.run import Run, last_good


def check_losses(run: Run, losses: Tensor, batch: Batch) -> None:
    """Stop where a loss of (batch,) is not finite, and name the cause: weights, else features, else the loss itself.

    Raises:
        TrainingError: it names the weights or the utterances.
    """
    if torch.isfinite(losses).all():
        return
    check_weights(run)
    spoilt = nonfinite_features(batch)
    if spoilt:
        raise TrainingError(f"features are not finite for utterance {', '.join(spoilt)}; {last_good(run)}")
    ids = batch.ids[: len(losses)]  # two views of an utterance have one loss
    bad = [f"{name} ({loss})" for name, loss in zip(ids, losses.tolist(), strict=True) if not math.isfinite(loss)]
    raise TrainingError(f"loss is not finite for utterance {', '.join(bad)}; {last_good(run)}")


def check_weights(run: Run) -> None:
    """Stop where a weight is not finite; before weights are scored or saved, so that a checkpoint is a good one.

    Raises:
        TrainingError: it names the weights.
    """
    spoilt = nonfinite_weights(run.plain_model)
    if spoilt:
        after = f"after {run.progress.update} updates"
        raise TrainingError(f"weights are not finite {after}: {', '.join(spoilt)}; {last_good(run)}")


def nonfinite_weights(model: nn.Module) -> list[str]:
    """The weights with values that are not finite, and how many of how many."""
    counts = [(name, int((~torch.isfinite(weight)).sum()), weight.numel()) for name, weight in model.named_parameters()]
    return [f"{name} ({count} of {size} values)" for name, count, size in counts if count]


def nonfinite_features(batch: Batch) -> list[str]:
    """The utterances with features that are not finite."""
    rows = (~torch.isfinite(batch.features)).flatten(1).any(dim=1)
    return list(dict.fromkeys(batch.ids[row] for row in rows.nonzero()[:, 0].tolist()))
