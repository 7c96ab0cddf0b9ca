"""Checkpoints of a run: when they are written, which are kept, and what `resume=true` restores.

last.pt, before_last.pt   `Run.state`, anywhere in an epoch; the second is used if the first is damaged
epoch_NNNN.pt             the weights after an epoch, for the best and the latest epochs
"""

import logging
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from asr.errors import InputError, Interrupted
from asr.system.signals import StopRequest
from asr.training.checkpoint_files import load_last, save_checkpoint, save_last
from asr.training.distributed import signal_in_any_process
from asr.training.numerical_checks import check_weights
from asr.training.optimization import copy_weights
from asr.training.run import Run

log = logging.getLogger("asr.training")


def restore(run: Run) -> None:
    """Restore the state of the last checkpoint.

    Raises:
        InputError: no checkpoint can be read.
    """
    run.load_state(load_last(run.run_dir / "checkpoints"))
    log.info("resumed after epoch %d and %d updates", run.progress.epoch, run.progress.update)


def save_state(run: Run) -> None:
    """Write the state of the run."""
    save_last(run.state(), run.run_dir / "checkpoints")


def save_epoch(run: Run) -> None:
    """Write state and weights after an epoch, and delete the weights of epochs no longer among the best or latest."""
    folder, trainer, done = run.run_dir / "checkpoints", run.config.trainer, run.progress
    save_checkpoint(copy_weights(run.plain_model), folder / f"epoch_{done.epoch:04d}.pt")
    save_state(run)
    latest = [record["epoch"] for record in done.history[-trainer.average_count :]]
    kept = {*latest, *(record["epoch"] for record in done.best(max(trainer.keep_best, trainer.average_count)))}
    for record in done.history:
        if record["epoch"] not in kept:
            (folder / f"epoch_{record['epoch']:04d}.pt").unlink(missing_ok=True)


def save_if_due(run: Run, stop: StopRequest) -> None:
    """After an update: save the state every ``checkpoint_minutes``, or if a signal asks the run to stop.

    Raises:
        Interrupted: a signal came in some process; the state is saved.
    """
    stopping = signal_in_any_process(run.accelerator, stop)
    minutes_since_save = run.minutes() - run.progress.minutes
    due = minutes_since_save >= (run.config.trainer.checkpoint_minutes or math.inf)
    if run.accelerator.is_main_process and (due or stopping):
        check_weights(run)
        save_state(run)
    raise_if_stopped(run, stop, stopping)


@contextmanager
def saved_on_bad_input(run: Run) -> Iterator[None]:
    """Save the state before input that cannot be read ends the run: a store that is away, a damaged file.

    Raises:
        InputError: the same, with where to resume from.
    """
    try:
        yield
    except InputError as error:
        if run.progress.update == 0:
            raise
        if run.accelerator.is_main_process:
            check_weights(run)
            save_state(run)
        raise InputError(f"{error}; {resumption(run)}") from error


def raise_if_stopped(run: Run, stop: StopRequest, stopping: int) -> None:
    """End a run whose state is saved, if a signal asked for it.

    Raises:
        Interrupted: it did.
    """
    if not stopping:
        return
    run.accelerator.wait_for_everyone()
    message = f"stopped after {run.progress.update} updates; {resumption(run)}"
    raise Interrupted(message, stop.signal or signal.SIGTERM)


def resumption(run: Run) -> str:
    """Where the state of a run is, and how to continue."""
    return f"saved in {run.run_dir / 'checkpoints'}, the same command with resume=true continues"
