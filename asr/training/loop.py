"""The training loop, from manifests to a bundle.

    datasets -> (flat start, then CTC) x epochs, each scored on dev -> average of the best weights -> run_dir/model

Everything that decides the next update is in the checkpoint: weights, optimizer, schedule, averages, generators, and how
many epochs are done. With several processes each takes its share of every batch, so that their number does not change
what an update is.
"""

import json
import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from asr.config import TrainConfig
from asr.errors import Interrupted, TrainingError
from asr.features.dataset import Batch, Item
from asr.inference.bundle import save_bundle
from asr.inference.evaluate import choose_temperature, recognize, score_hypotheses
from asr.inference.forced_alignment import save_aligner
from asr.scoring.calibration import save_temperature
from asr.scoring.error_rate import Score
from asr.scoring.results import headline
from asr.system.lock import open_run_lock
from asr.system.progress import progress
from asr.system.signals import Stop, catch_stop_signals
from asr.training.checkpoint_files import load_checkpoint
from asr.training.distributed import report_lost_process
from asr.training.frame_classifier import train_aligner
from asr.training.model_card import describe, model_card
from asr.training.numerical_checks import check_losses, check_weights
from asr.training.objective import batch_losses, views_of
from asr.training.optimization import Weights, average_weights, gradient_norms, weight_noise
from asr.training.run import (
    Run,
    check_run_dir,
    checkpoint,
    checkpoint_epoch,
    last_good,
    log_to,
    restore,
    resumable,
    starts_from_another,
    stops_early,
    write_config,
)

log = logging.getLogger("asr.training")

Share = tuple[Batch, float]
"""A process' part of a batch, and the factor on its loss: 0 where it only stands in, to keep the processes in step."""

NORMS_EVERY = 20
"""Updates between two records of the gradient norms, which cost a pass over all gradients."""


def train(config: TrainConfig, run_dir: Path) -> float:
    """Train a model, or go on with a run that was interrupted, and leave its bundle in ``run_dir/model``.

    Raises:
        InputError: the configuration, the manifests or the run folder cannot be used.
        TrainingError: a loss, a gradient or a weight is not finite, or another process is gone.
    """
    check_run_dir(config, run_dir)
    run = Run(config, run_dir)
    alone = open_run_lock(run_dir) if run.accelerator.is_main_process else nullcontext()
    with alone, report_lost_process(run.accelerator, run_dir / "checkpoints"):
        return _train(run)


def _train(run: Run) -> float:
    config, run_dir = run.config, run.run_dir
    another = starts_from_another(config, run_dir)
    if run.accelerator.is_main_process:
        write_config(run)
    with log_to(run_dir, run.accelerator.is_main_process):
        if resumable(run_dir):
            restore(run)
        log.info("precision %s: %s", run.precision.name, run.precision.why)
        if run.precision.warning:
            log.warning(run.precision.warning)
        run.accelerator.init_trackers("tensorboard")
        log.info(describe(run))
        if another:
            log.info("weights of %s; as they were: %s", config.init_from, "; ".join(run.left_fresh) or "none")
        with catch_stop_signals() as stop:
            while run.progress.epoch < config.trainer.epochs and not stops_early(run):
                train_epoch(run, stop)
                if run.accelerator.is_main_process:
                    checkpoint_epoch(run)
                run.accelerator.wait_for_everyone()
                if signals_to_stop(run, stop):  # which came while the dev set was recognized
                    raise interrupted(run, stop)
        dev = finish(run)
        run.accelerator.end_training()
    return dev.total.per


def train_epoch(run: Run, stop: Stop) -> None:
    """One pass over what is left of the training set, then the dev set; a record of both in the history.

    Raises:
        Interrupted: a signal came; the state is saved.
    """
    state, trainer = run.progress, run.config.trainer
    epoch = state.epoch
    plan = run.plan(epoch)
    groups = [plan[start : start + trainer.accumulation] for start in range(0, len(plan), trainer.accumulation)]
    last_rate = learning_rate_at(run, (epoch + (len(groups) - 1) / len(groups)) / trainer.epochs)
    run.model.train()
    for group, batches in shares(run, groups, epoch):
        learning_rate = learning_rate_at(run, (epoch + state.groups / len(groups)) / trainer.epochs)
        weight = group_weight(run, group)
        loss = update(run, batches, weight, learning_rate)
        state.loss_sum, state.loss_count = state.loss_sum + loss * weight, state.loss_count + weight
        state.groups += 1
        save_or_stop(run, stop)
    dev = validate(run)
    run.schedule.epoch_done(dev.total.per)
    record = {
        "epoch": epoch + 1,
        "objective": "flat start" if epoch < trainer.flat_start_epochs else "CTC",
        "train_loss": state.loss_sum / state.loss_count,
        "dev_per": dev.total.per,
        "learning_rate": last_rate,
        "minutes": state.minutes + (time.perf_counter() - run.clock) / 60,
    }
    state.history.append(record)
    state.epoch, state.groups, state.loss_sum, state.loss_count = epoch + 1, 0, 0.0, 0.0
    run.accelerator.log({key: value for key, value in record.items() if key != "objective"}, step=state.update)
    log.info(
        "epoch %d (%s): loss %.4f, dev PER %.2f %%, learning rate %.3g, %.1f minutes",
        state.epoch,
        record["objective"],
        record["train_loss"],
        100 * dev.total.per,
        last_rate,
        record["minutes"],
    )


def learning_rate_at(run: Run, done: float) -> float:
    """The learning rate where so much of all updates is done, 0 to 1."""
    return run.config.optimizer.learning_rate * run.schedule.factor(done)


def save_or_stop(run: Run, stop: Stop) -> None:
    """Save the state when it is time to, or when the run was asked to stop."""
    signals = signals_to_stop(run, stop)
    due = (time.perf_counter() - run.clock) / 60 >= (run.config.trainer.checkpoint_minutes or math.inf)
    if run.accelerator.is_main_process and (due or signals):
        check_weights(run)
        checkpoint(run)
    if signals:
        run.accelerator.wait_for_everyone()
        raise interrupted(run, stop)


def signals_to_stop(run: Run, stop: Stop) -> int:
    """0 as long as no process has been asked to stop, the same in every one."""
    return int(run.accelerator.reduce(torch.tensor(stop.signal))) if run.accelerator.num_processes > 1 else stop.signal


def interrupted(run: Run, stop: Stop) -> Interrupted:
    """What ends a run whose state is saved."""
    saved = f"saved in {run.run_dir / 'checkpoints'}, the same command with resume=true goes on"
    return Interrupted(f"stopped after {run.progress.update} updates; {saved}", stop.signal or signal.SIGTERM)


def update(run: Run, batches: Sequence[Share], weight: float, learning_rate: float) -> float:
    """One step of the optimizer on the batches of a group; its loss, over all processes, divided by ``weight``."""
    for settings in run.optimizer.param_groups:
        settings["lr"] = learning_rate
    total = torch.zeros((), device=run.accelerator.device)
    ids = [name for batch, _ in batches for name in batch.ids]
    with weight_noise(run.plain_model, run.config.trainer.weight_noise):
        for batch, share in batches:
            losses = batch_losses(run, batch.to(run.accelerator.device)) * share
            check_losses(run, losses, batch)
            total += losses.detach().sum()
            # Gradients are averaged over processes, so that the sum over all of them needs this factor.
            run.accelerator.backward(losses.sum() * run.accelerator.num_processes / weight)
    if run.config.trainer.gradient_clip:
        norm = run.accelerator.clip_grad_norm_(run.model.parameters(), run.config.trainer.gradient_clip)
    else:
        norm = nn.utils.get_total_norm(p.grad for p in run.model.parameters() if p.grad is not None)
    if not torch.isfinite(norm):
        raise TrainingError(f"gradient norm is {float(norm)} in a batch of {', '.join(ids)}; {last_good(run)}")
    loss = float(run.accelerator.reduce(total)) / weight
    if run.progress.update % NORMS_EVERY == 0:
        norms = {f"gradient/{name}": value for name, value in gradient_norms(run.plain_model).items()}
        values = {"loss": loss, "gradient/all": float(norm), "learning_rate": learning_rate, **norms}
        run.accelerator.log(values, step=run.progress.update)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average:
        run.average.update(run.plain_model)
    run.progress.update += 1
    return loss


def shares(run: Run, groups: Sequence[list[list[Item]]], epoch: int) -> Iterator[tuple[list[list[Item]], list[Share]]]:
    """For each group of the plan, this process' part of its batches: every n-th utterance of each.

    Those that an interrupted run has done are left out.
    """
    rank, processes = run.accelerator.process_index, run.accelerator.num_processes
    left = groups[run.progress.groups :]
    parts = [batch[rank::processes] or batch[:1] for group in left for batch in group]
    batches = run.train_set.batches(parts, run.config.augment, (run.config.seed, epoch), views_of(run))
    taken = progress(left, f"epoch {epoch + 1}", len(left)) if rank == 0 else left
    for group in taken:
        yield group, [(next(batches), float(rank < len(batch))) for batch in group]


def group_weight(run: Run, group: list[list[Item]]) -> float:
    """What the summed loss of a group is divided by, the same in every process."""
    items = [item for batch in group for item in batch]
    reduction = run.config.trainer.loss_reduction
    if reduction == "token":
        return float(max(1, sum(len(run.train_set.tokens[item.utterance]) for item in items)))
    return float(len(items)) if reduction == "utterance" else 1.0


def validate(run: Run) -> Score:
    """The dev set, scored; every process does all of it, which keeps them in step."""
    check_weights(run)
    run.plain_model.eval()
    return score_hypotheses(run.bundle, run.dev_set, recognize(run.bundle, run.dev_set))


def finish(run: Run) -> Score:
    """Average weights as the configuration says, score them on dev, write the bundle and the history."""
    final_weights, what = chosen_weights(run)
    run.plain_model.load_state_dict(final_weights)
    dev = validate(run)
    if run.accelerator.is_main_process:
        (run.run_dir / "history.json").write_text(json.dumps(run.progress.history, indent=1) + "\n", encoding="utf-8")
        save_bundle(run.bundle, run.run_dir / "model", model_card(run, dev, what))
        save_temperature(choose_temperature(run.bundle, run.dev_set), run.run_dir / "model")
        if run.config.trainer.aligner_epochs:
            aligner = train_aligner(run.bundle, run.train_set, run.config.trainer.aligner_epochs, run.config.seed)
            save_aligner(aligner, run.run_dir / "model")
    log.info("dev PER of the model (%s): %s", what, headline(dev))
    left_out = "utterances left out of the loss at least once, their phones being longer than their frames: %d"
    log.info(left_out, len(run.progress.infeasible))
    log.info("model: %s", run.run_dir / "model")
    return dev


def chosen_weights(run: Run) -> tuple[Weights, str]:
    """The weights of the bundle, and in words what they are."""
    trainer, folder = run.config.trainer, run.run_dir / "checkpoints"
    if run.average:
        return run.average.weights, "exponential moving average"
    best = run.progress.best(trainer.average_count)
    records = {"none": best[:1], "best": best, "last": run.progress.history[-trainer.average_count :]}[trainer.average]
    sets = [load_checkpoint(folder / f"epoch_{record['epoch']:04d}.pt") for record in records]
    epochs = ", ".join(str(epoch) for epoch in sorted(record["epoch"] for record in records))
    return average_weights(sets), f"average of epochs {epochs}" if len(records) > 1 else f"epoch {epochs}"
