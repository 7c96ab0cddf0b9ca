"""The training objective: flat start in the first epochs, then CTC and whatever else is configured.

To add a loss, write it in `asr.training.losses` as a function of log-probabilities that returns one value per utterance,
and add it in `batch_losses`.
"""

import logging

import torch
from torch import Tensor

from asr.features.dataset import Batch
from asr.nn.ctc import ctc_loss, required_frames
from asr.training.losses import (
    consistency_loss,
    distillation_loss,
    expected_error_loss,
    flat_start_loss,
    flat_start_targets,
)
from asr.training.run import Run

log = logging.getLogger("asr.training")


def batch_losses(run: Run, batch: Batch) -> Tensor:
    """The loss of each utterance in nats, (batch,); 0, and a warning, if its labels do not fit its frames.

    ``trainer.expected_errors`` of the loss is the expected number of errors. With teachers, ``trainer.distillation`` of it
    is the divergence from their posteriors. With two views of each utterance, the loss is the mean of both views' plus
    ``trainer.consistency`` times their divergence.
    """
    trainer = run.config.trainer
    bfloat16 = run.precision.name == "bfloat16"
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=bfloat16):
        log_probs, lengths = run.model(batch.features, batch.feature_lengths, batch.encoded)
    if run.progress.epoch < trainer.flat_start_epochs:
        features = batch.features
        if (
            batch.encoded or run.bundle.features.name == "waveform"
        ):  # tell nothing of the level: all frames count as speech
            features = torch.zeros_like(features[..., :1])
        targets = flat_start_targets(features, batch.feature_lengths, lengths, batch.tokens, batch.token_lengths)
        return flat_start_loss(log_probs, targets)
    losses, feasible = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths)
    if not feasible.all():
        warn_of_infeasible(run, batch, lengths, feasible)
    if trainer.expected_errors:
        errors = expected_error_loss(log_probs, lengths, batch.tokens, batch.token_lengths) * feasible
        losses = (1 - trainer.expected_errors) * losses + trainer.expected_errors * errors
    if run.teachers:
        posteriors = run.teachers.posteriors(batch).to(log_probs.device)
        divergence = distillation_loss(log_probs, posteriors, lengths) * feasible
        losses = (1 - trainer.distillation) * losses + trainer.distillation * divergence
    if views_of(run) == 1:
        return losses
    (first_losses, second_losses), (first, second) = losses.chunk(2), log_probs.chunk(2)
    divergence = consistency_loss(first, second, lengths[: len(first_losses)])
    return (first_losses + second_losses) / 2 + trainer.consistency * divergence


def warn_of_infeasible(run: Run, batch: Batch, lengths: Tensor, feasible: Tensor) -> None:
    """Name each utterance whose labels do not fit its frames, once per run."""
    needed = required_frames(batch.tokens, batch.token_lengths)
    for index in (~feasible).nonzero()[:, 0].tolist():
        if batch.ids[index] not in run.progress.infeasible:
            reason = f"{int(lengths[index])} output frames, its phones need {int(needed[index])}"
            run.progress.infeasible[batch.ids[index]] = reason
            log.warning("utterance %s is left out of the loss: %s", batch.ids[index], reason)


def views_of(run: Run) -> int:
    """Views of each utterance in a batch: two once consistency regularization is on, else one."""
    return 2 if run.config.trainer.consistency and run.progress.epoch >= run.config.trainer.flat_start_epochs else 1
