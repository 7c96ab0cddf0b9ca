"""One worker of a search.

    ask the study for settings -> train, report every epoch's dev PER, stop if it is poor -> tell the study

Every worker runs the same command, on any machine that reaches the database and the run folder. No worker leads, and each
may be killed and started again. The database alone says what is done: never more than ``search.trials`` trainings that
ended or were pruned. When the heartbeats of a trial stop, another worker marks it failed and queues its settings
again; whoever takes them continues from the trial's last checkpoint.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from optuna import Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from asr.errors import Interrupted, TrainingError
from asr.search.settings import Interval, SearchConfig, Space, Values
from asr.search.study import Study, patiently
from asr.search.trials import FOLDER

AfterEpoch = Callable[[Sequence[Mapping[str, Any]], bool], None]
"""Takes the records of all epochs done, each with ``epoch`` and ``dev_per``, and whether the last one is done."""

TrainTrial = Callable[[Sequence[str], Path, AfterEpoch], float]
"""Trains with overrides in a folder, resuming what is there, and returns the dev PER."""


def work_on_study(search: SearchConfig, space: Space, folder: Path, train: TrainTrial) -> float:
    """Train trials in ``folder`` until all are done. Returns the lowest dev PER, a fraction.

    Waits at the end for the trials of other workers, to train again those that are killed.

    Raises:
        InputError: the database cannot be used, or as ``train``.
        Interrupted: a signal stopped a training; its settings are queued again.
    """
    study = Study(search)
    while not study.is_done():
        if study.has_room():
            run_trial(study, space, folder, train)
        else:
            time.sleep(search.heartbeat_s)
    return study.best()


def run_trial(study: Study, space: Space, folder: Path, train: TrainTrial) -> None:
    """Take settings from the study, train with them, and tell the outcome."""
    trial = patiently(study.optuna.ask)
    with study.heartbeats(trial):
        if study.is_in_excess(trial.number):
            study.drop(trial)
            return
        overrides = [f"{name}={patiently(partial(suggest, trial, name, values))}" for name, values in space.items()]
        run_dir = folder / trial.user_attrs.get(FOLDER, f"{trial.number:04d}")  # settings queued again keep theirs
        patiently(lambda: trial.set_user_attr(FOLDER, run_dir.name))
        print(f"trial {trial.number}: {' '.join(overrides)}", flush=True)
        try:
            state, per = train_trial(trial, lambda report: train(overrides, run_dir, report))
        except UpdateFinishedTrialError:
            print(f"trial {trial.number}: taken for killed by another worker, which queued it again", flush=True)
            return
        except Interrupted:
            study.queue_again(trial.number)
            raise
        except Exception:  # whatever it is, the other workers learn of it at once, not by missing heartbeats
            study.drop(trial)
            raise
        study.tell(trial.number, state, per)
    print(study.describe(trial.number), flush=True)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def train_trial(trial: Trial, train: Callable[[AfterEpoch], float]) -> tuple[TrialState, float | None]:
    """Train, and report every epoch to the study. Returns the state of the trial, and its PER if it was not pruned."""
    reported: set[int] = set()

    def report(history: Sequence[Mapping[str, Any]], last: bool) -> None:
        for record in history:
            if record["epoch"] not in reported:
                patiently(partial(trial.report, record["dev_per"], record["epoch"]))
                reported.add(record["epoch"])
        if not last and patiently(trial.should_prune):
            raise TrialPruned

    try:
        return TrialState.COMPLETE, train(report)
    except TrialPruned:
        return TrialState.PRUNED, None
    except TrainingError as error:  # such as a loss that is not finite: the sampler avoids settings that are pruned
        patiently(partial(trial.set_user_attr, "error", str(error)))
        return TrialState.PRUNED, None


def suggest(trial: Trial, name: str, values: Values) -> Any:
    """Let the study choose a value."""
    if not isinstance(values, Interval):
        return trial.suggest_categorical(name, values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)
