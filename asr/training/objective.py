"""What an update makes smaller: flat start first, then CTC, with agreement between views and with teachers if asked for."""

import logging

import torch
from torch import Tensor

from asr.features.dataset import Batch
from asr.nn.ctc import ctc_loss, required_frames
from asr.training.losses import consistency_loss, distillation_loss, flat_start_loss, flat_start_targets
from asr.training.run import Run

log = logging.getLogger("asr.training")


def batch_losses(run: Run, batch: Batch) -> Tensor:
    """The loss of each utterance in nats, (batch,); 0 and a word in the log where the labels do not fit the frames.

    Where a batch has two views of each utterance, the mean of both losses and what the views are apart. Where there are
    teachers, ``trainer.distillation`` of it is how far the student is from their posteriors.
    """
    trainer = run.config.trainer
    half = run.precision.name == "bfloat16"
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=half):
        log_probs, lengths = run.model(batch.features, batch.feature_lengths)
    if run.progress.epoch < trainer.flat_start_epochs:
        targets = flat_start_targets(batch.features, batch.feature_lengths, lengths, batch.tokens, batch.token_lengths)
        return flat_start_loss(log_probs, targets)
    losses, feasible = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths)
    if not feasible.all():
        name_infeasible(run, batch, lengths, feasible)
    if run.teachers:
        followed = run.teachers.posteriors(batch).to(log_probs.device)
        apart = distillation_loss(log_probs, followed, lengths) * feasible
        losses = (1 - trainer.distillation) * losses + trainer.distillation * apart
    if views_of(run) == 1:
        return losses
    (one, other), (first, second) = losses.chunk(2), log_probs.chunk(2)
    apart = consistency_loss(first, second, lengths[: len(one)])
    return (one + other) / 2 + trainer.consistency * apart


def name_infeasible(run: Run, batch: Batch, lengths: Tensor, feasible: Tensor) -> None:
    """Say once of each utterance that its labels do not fit its frames."""
    needed = required_frames(batch.tokens, batch.token_lengths)
    for row in (~feasible).nonzero()[:, 0].tolist():
        if batch.ids[row] not in run.progress.infeasible:
            reason = f"{int(lengths[row])} output frames, its phones need {int(needed[row])}"
            run.progress.infeasible[batch.ids[row]] = reason
            log.warning("utterance %s is left out of the loss: %s", batch.ids[row], reason)


def views_of(run: Run) -> int:
    """How often a batch has each of its utterances: twice where two views of it are to agree."""
    return 2 if run.config.trainer.consistency and run.progress.epoch >= run.config.trainer.flat_start_epochs else 1
