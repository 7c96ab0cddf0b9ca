"""One worker of a search.

    ask the study for settings -> train, report every epoch's dev PER, stop if it is poor -> tell the study

Every worker runs the same command, on any machine that reaches the database and the run folder. No worker leads, and each
may be killed and started again. The database alone says what is done: never more than ``search.trials`` trainings that
ended or were pruned. When the heartbeats of a trial stop, another worker marks it failed and queues its settings
again; whoever takes them continues from the trial's last checkpoint. An error ends the worker, and queues the settings
again if they have been trained before; otherwise they are wrong, and not tried again.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from optuna import Trial, TrialPruned
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from asr.errors import InputError, Interrupted, TrainingError
from asr.search.settings import Interval, SearchConfig, Space, Values
from asr.search.study import Study, patiently
from asr.search.trials import FOLDER, WRONG

AfterEpoch = Callable[[Sequence[Mapping[str, Any]], bool], None]
"""Takes the records of all epochs done, each with ``epoch`` and ``dev_per``, and whether the last one is done."""

TrainTrial = Callable[[Sequence[str], Path, AfterEpoch], float]
"""Trains with overrides in a folder, resuming what is there, and returns the dev PER."""


def work_on_study(search: SearchConfig, space: Space, folder: Path, train: TrainTrial) -> float:
    """Train trials in ``folder`` until all are done. Returns the lowest dev PER, a fraction.

    Waits at the end for the trials of other workers, to train again those that are killed.

    Raises:
        InputError: the database cannot be used, the study has tried other values than ``space``, or as ``train``.
        Interrupted: a signal stopped a training; its settings are queued again.
    """
    study = Study(search, folder)
    while not study.is_done():
        if study.has_room():
            run_trial(study, space, train)
        else:
            time.sleep(search.heartbeat_s)
    return study.best()


def run_trial(study: Study, space: Space, train: TrainTrial) -> None:
    """Take settings from the study, train with them, and tell the outcome."""
    trial = patiently(study.optuna.ask)
    with study.heartbeats(trial):
        try:
            if study.is_in_excess(trial.number):
                study.give_back(trial)
                return
            overrides = [f"{name}={patiently(partial(suggest, trial, name, values))}" for name, values in space.items()]
            name = trial.user_attrs.get(FOLDER, f"{trial.number:04d}")  # settings queued again keep theirs
            patiently(lambda: trial.set_user_attr(FOLDER, name))
            run_dir = study.folder / name
            with study.lock(name) as free:
                if not free:  # a worker that was taken for killed still trains them
                    study.give_back(trial)
                    return
                print(f"trial {trial.number}: {' '.join(overrides)}", flush=True)
                state, per = train_trial(trial, partial(train, overrides, run_dir), run_dir)
            study.tell(trial.number, state, per)
        except UpdateFinishedTrialError:
            print(f"trial {trial.number}: taken for killed by another worker, which queues it again", flush=True)
            return
        except BaseException:  # whatever it is, the other workers learn of it at once, not by missing heartbeats
            with suppress(UpdateFinishedTrialError):
                study.queue_again(trial.number)
            raise
    print(study.describe(trial.number), flush=True)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def train_trial(trial: Trial, train: Callable[[AfterEpoch], float], run_dir: Path) -> tuple[TrialState, float | None]:
    """Train, and report every epoch to the study. Returns the state of the trial, and its PER if it was not pruned.

    Settings are marked as wrong if an error comes before anything was trained with them.
    """
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
    except (Interrupted, UpdateFinishedTrialError):
        raise
    except Exception as error:  # whatever it is, `run_trial` ends this worker with it
        if not reported and not (run_dir / "checkpoints").exists():
            patiently(partial(trial.set_user_attr, WRONG, str(error)))
            print(f"trial {trial.number}: could not begin, its settings are not tried again", flush=True)
        raise


def suggest(trial: Trial, name: str, values: Values) -> Any:
    """Let the study choose a value.

    Raises:
        InputError: the values cannot be tried, or the study has tried others that do not go with them.
    """
    try:
        if not isinstance(values, Interval):
            return trial.suggest_categorical(name, values)
        if isinstance(values.low, int) and isinstance(values.high, int):
            return trial.suggest_int(name, values.low, values.high, log=values.log)
        return trial.suggest_float(name, values.low, values.high, log=values.log)
    except ValueError as error:
        tried = [one.distributions[name] for one in trial.study.get_trials(deepcopy=False) if name in one.distributions]
        here = f"{written(tried[0])} as in study {trial.study.study_name}, or another search.study" if tried else ""
        expected = here or f"values to draw from: {error}"
        raise InputError(f"configuration: search.params.{name} is {written(values)}, expected {expected}") from error


def written(values: Values | BaseDistribution) -> str:
    """Values to try, as they are written in a sweep."""
    if isinstance(values, IntDistribution | FloatDistribution):
        return str(Interval(values.low, values.high, values.log))
    if isinstance(values, CategoricalDistribution):
        return written([str(word) for word in values.choices])
    return f"choice({', '.join(values)})" if isinstance(values, Sequence) else str(values)
