"""Numerical checks: a loss or weight that is not finite ends the training with one line that names the cause.

NaN spreads: one NaN weight makes every loss NaN, and NaN features make the loss of their utterance NaN. The checks look for
the cause only after a loss is not finite, so ordinary updates pay nothing.
"""

import math

import torch
from torch import Tensor, nn

from asr.errors import TrainingError
from asr.features.dataset import Batch
from asr.training.run import Run
from asr.training.run_folder import describe_last_checkpoint


def check_losses(run: Run, losses: Tensor, batch: Batch) -> None:
    """Check the losses (batch,) of an update, and name what makes one not finite: weights, else features, else itself.

    Raises:
        TrainingError: a loss is not finite; it names the weights or the utterances.
    """
    if torch.isfinite(losses).all():
        return
    check_weights(run)
    saved = describe_last_checkpoint(run.run_dir)
    if utterances := nonfinite_features(batch):
        raise TrainingError(f"features are not finite for utterance {', '.join(utterances)}; {saved}")
    ids = batch.ids[: len(losses)]  # two views of an utterance share one loss
    bad = [f"{name} ({loss})" for name, loss in zip(ids, losses.tolist(), strict=True) if not math.isfinite(loss)]
    raise TrainingError(f"loss is not finite for utterance {', '.join(bad)}; {saved}")


def check_weights(run: Run) -> None:
    """Check the weights before they are scored or saved, so that every checkpoint is good.

    Raises:
        TrainingError: a weight is not finite; it names the weights.
    """
    if bad := nonfinite_weights(run.plain_model):
        after, saved = f"after {run.progress.update} updates", describe_last_checkpoint(run.run_dir)
        raise TrainingError(f"weights are not finite {after}: {', '.join(bad)}; {saved}")


def nonfinite_weights(model: nn.Module) -> list[str]:
    """The weights that are not finite, each with the number of such values and its size."""
    counts = [(name, int((~torch.isfinite(weight)).sum()), weight.numel()) for name, weight in model.named_parameters()]
    return [f"{name} ({count} of {size} values)" for name, count, size in counts if count]


def nonfinite_features(batch: Batch) -> list[str]:
    """The utterances whose features are not finite."""
    bad = (~torch.isfinite(batch.features)).flatten(1).any(dim=1)
    return list(dict.fromkeys(batch.ids[index] for index in bad.nonzero()[:, 0].tolist()))
