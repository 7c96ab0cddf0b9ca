"""The training loop, from a configuration to `run_dir/model`. Begin reading here.

    datasets -> epochs of updates (flat start first, then CTC), each scored on dev -> averaged weights -> model folder

An update is one step of the optimizer. A section is what is in memory at once: everything, or some shards. The checkpoint
holds everything that decides the next update (`Run.state`), so a resumed run ends with the same weights, bit for bit. In
distributed training each process computes its share of every batch: the number of processes does not change the gradient
(unless each has shards of its own, with ``sources.split``).
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.config import TrainConfig
from asr.corpus.phones import inventory
from asr.errors import TrainingError
from asr.inference.evaluate import recognize, score_hypotheses
from asr.scoring.error_rate import Score, rate_name
from asr.system.lock import open_run_lock
from asr.system.signals import StopRequest, catch_stop_signals
from asr.training.checkpoints import raise_if_stopped, restore, save_epoch, save_if_due, saved_on_bad_input
from asr.training.data import Share, load_data, plan_updates, remaining_sections, shares
from asr.training.distributed import make_accelerator, report_lost_process, signal_in_any_process
from asr.training.final_model import write_model
from asr.training.model_card import describe
from asr.training.numerical_checks import check_losses, check_weights
from asr.training.objective import batch_losses
from asr.training.optimization import gradient_norms, weight_noise
from asr.training.pretrained import Checkpoint, frozen_layers
from asr.training.run import Run
from asr.training.run_folder import check_run_dir, describe_last_checkpoint, log_to, resumable, write_config

log = logging.getLogger("asr.training")

AfterEpoch = Callable[[Sequence[Mapping[str, Any]]], None]
"""Called after each epoch with the records of all epochs so far: ``epoch``, ``dev_per`` and others."""

NORMS_EVERY = 20
"""Updates between two records of the gradient norms, which cost a pass over all gradients."""


def train(config: TrainConfig, run_dir: Path, after_epoch: AfterEpoch | None = None) -> float:
    """Train a model and write it to ``run_dir/model``; continue a run that was interrupted. Returns the dev PER.

    An exception of ``after_epoch`` ends the run; its state is saved.

    Raises:
        InputError: the configuration, the manifests or the run folder cannot be used.
        TrainingError: a loss, a gradient or a weight is not finite, or another process is gone.
        Interrupted: a signal stopped the run; its state is saved.
    """
    check_run_dir(config, run_dir)
    run = prepare(config, run_dir)
    with closing(run.sections), start(run):
        with catch_stop_signals() as stop:
            while run.progress.epoch < config.trainer.epochs and not should_stop_early(run):
                train_epoch(run, stop)
                if after_epoch:
                    after_epoch(run.progress.history)
        dev = write_model(run, validate)
        run.accelerator.end_training()
    return dev.total.per


def prepare(config: TrainConfig, run_dir: Path) -> Run:
    """Everything that a training needs, each part made once: device and processes, phones, datasets, model, optimizer."""
    accelerator = make_accelerator(config.trainer, run_dir)
    phones = inventory(config.corpus.inventory, Path(config.corpus.dir))
    checkpoint = Checkpoint.of(config)
    features = checkpoint.features if checkpoint else config.features
    encode = frozen_layers(checkpoint, config, accelerator.device)
    longest_s = checkpoint.longest_s if checkpoint else math.inf
    sections, dev_set = load_data(config, accelerator, features, phones, encode, longest_s)
    return Run(config, run_dir, accelerator, phones, sections, dev_set, checkpoint)


@contextmanager
def start(run: Run) -> Iterator[None]:
    """Lock the run folder, open its log, resume from its checkpoint if there is one; explain a lost process."""
    main, run_dir = run.accelerator.is_main_process, run.run_dir
    lock = open_run_lock(run_dir) if main else nullcontext()
    with lock, report_lost_process(run.accelerator, run_dir / "checkpoints"):
        if main:
            write_config(run.config, run.precision.name, run_dir)
        with log_to(run_dir, main):
            if resumable(run_dir):
                restore(run)
            log.info("precision %s: %s", run.precision.name, run.precision.why)
            if run.precision.warning:
                log.warning(run.precision.warning)
            run.accelerator.init_trackers("tensorboard")
            log.info(describe(run))
            if run.uninitialized is not None:
                left = "; ".join(run.uninitialized) or "none"
                log.info("weights initialized from %s; not initialized: %s", run.config.init_from, left)
            yield


def train_epoch(run: Run, stop: StopRequest) -> None:
    """The updates of an epoch that are left to do, then the dev set, then a checkpoint.

    Raises:
        Interrupted: a signal stopped the run; its state is saved.
        InputError: a store does not answer, or a shard or an audio file is damaged; the state is saved.
    """
    epoch, trainer = run.progress.epoch, run.config.trainer
    run.model.train()
    with saved_on_bad_input(run):
        for section in remaining_sections(run):
            updates = plan_updates(run, section)
            for update, batches in shares(run, section, updates):
                learning_rate = learning_rate_at(run, section.epoch_fraction(run.progress.groups / len(updates)))
                loss = update_weights(run, batches, update.divisor, learning_rate)
                run.progress.add_update(loss, update.divisor, learning_rate)
                save_if_due(run, stop)
            run.progress.end_section()
    dev = validate(run)
    run.schedule.epoch_done(dev.total.per)
    record = {
        "epoch": epoch + 1,
        "objective": "flat start" if epoch < trainer.flat_start_epochs else "CTC",
        "train_loss": run.progress.loss_sum / run.progress.loss_count,
        "dev_per": dev.total.per,
        "learning_rate": run.progress.learning_rate,
        "minutes": run.minutes(),
    }
    run.progress.end_epoch(record)
    log_epoch(run, record)
    if run.accelerator.is_main_process:
        save_epoch(run)
    run.accelerator.wait_for_everyone()
    raise_if_stopped(run, stop, signal_in_any_process(run.accelerator, stop))  # a signal during validation


def update_weights(run: Run, batches: Sequence[Share], divisor: float, learning_rate: float) -> float:
    """One update: the gradient of the summed loss over ``divisor``, clipped, then the optimizer. Returns that loss.

    Raises:
        TrainingError: a loss or the gradient is not finite.
    """
    for settings in run.optimizer.param_groups:
        settings["lr"] = learning_rate * settings["factor"]
    total = torch.zeros((), device=run.accelerator.device)
    with weight_noise(run.plain_model, run.config.trainer.weight_noise):
        for batch, share in batches:
            losses = batch_losses(run, batch.to(run.accelerator.device)) * share
            check_losses(run, losses, batch)
            total += losses.detach().sum()
            # Gradients are averaged over processes; this factor makes the average a sum.
            run.accelerator.backward(losses.sum() * run.accelerator.num_processes / divisor)
    norm = clip_gradient(run, batches)
    loss = float(run.accelerator.reduce(total)) / divisor
    if run.progress.update % NORMS_EVERY == 0:
        norms = {f"gradient/{name}": value for name, value in gradient_norms(run.plain_model).items()}
        values = {"loss": loss, "gradient/all": norm, "learning_rate": learning_rate, **norms}
        run.accelerator.log(values, step=run.progress.update)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average:
        run.average.update(run.plain_model)
    run.progress.update += 1
    return loss


def validate(run: Run) -> Score:
    """The score on the dev set. Every process scores all of it, which keeps them in step."""
    check_weights(run)
    run.plain_model.eval()
    return score_hypotheses(run.bundle, run.dev_set, recognize(run.bundle, run.dev_set))


def clip_gradient(run: Run, batches: Sequence[Share]) -> float:
    """Clip the gradient as the configuration says; its norm before.

    Raises:
        TrainingError: the norm is not finite.
    """
    if run.config.trainer.gradient_clip:
        norm = run.accelerator.clip_grad_norm_(run.model.parameters(), run.config.trainer.gradient_clip)
    else:
        norm = nn.utils.get_total_norm(p.grad for p in run.model.parameters() if p.grad is not None)
    if not torch.isfinite(norm):
        ids = ", ".join(name for batch, _ in batches for name in batch.ids)
        saved = describe_last_checkpoint(run.run_dir)
        raise TrainingError(f"gradient norm is {float(norm)} in a batch of {ids}; {saved}")
    return float(norm)


def learning_rate_at(run: Run, fraction: float) -> float:
    """The learning rate after this fraction of the current epoch's updates."""
    progress = (run.progress.epoch + fraction) / run.config.trainer.epochs
    return run.config.optimizer.learning_rate * run.schedule.factor(progress)


def should_stop_early(run: Run) -> bool:
    """Whether the dev PER has not improved for ``early_stopping_epochs`` epochs."""
    patience, pers = run.config.trainer.early_stopping_epochs, [record["dev_per"] for record in run.progress.history]
    return bool(patience and pers and len(pers) - 1 - pers.index(min(pers)) >= patience)


def log_epoch(run: Run, record: dict[str, float | str]) -> None:
    """One line in the log, and the figures for the trackers."""
    run.accelerator.log({key: value for key, value in record.items() if key != "objective"}, step=run.progress.update)
    log.info(
        "epoch %(epoch)d (%(objective)s): loss %(train_loss).4f, dev %(rate)s %(per).2f %%, "
        "learning rate %(learning_rate).3g, %(minutes).1f minutes",
        {**record, "rate": rate_name(run.bundle.inventory.notation), "per": 100 * float(record["dev_per"])},
    )
