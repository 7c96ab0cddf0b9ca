"""A study in its database: opening it, counting its trials, heartbeats, and trials whose worker was killed."""

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from asr.errors import InputError
from asr.search.settings import SearchConfig
from asr.search.trials import DONE, FOLDER, SUPERFLUOUS, failures, is_in_excess, lost_trials
from asr.system.lock import open_run_lock

T = TypeVar("T")

MISSED_HEARTBEATS = 3
"""After so many a trial counts as killed."""

PATIENCE_S = 300.0
"""How long a worker waits for a database that has stopped answering."""

CONNECT_OPTIONS = {"sqlite": {"timeout": 60}, "postgresql": {"connect_timeout": 10}}
"""Seconds to wait for a file that another process has locked, and for a server."""


class Study:
    """An Optuna study that several processes work on.

    ``folder`` holds the run folders, and a lock for the settings of each in ``locks``: a worker that was taken for killed
    may be alive (its machine slept, the database was away), and trains until it hears of that.

    Raises:
        InputError: the database cannot be used.
    """

    def __init__(self, search: SearchConfig, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
        self.search = search
        self.folder = folder
        self.storage, self.optuna = open_storage(search)
        self._seen: set[int] = set()
        self._in_use: set[str] = set()

    def is_done(self) -> bool:
        """Whether all trials have ended or were pruned."""
        return self._count(DONE) >= self.search.trials

    def has_room(self) -> bool:
        """Whether another trial may be started, after those that were killed are failed and queued again."""
        patiently(self._fail_killed_trials)
        in_use = self._queue_lost_trials()
        return self._count((TrialState.RUNNING, *DONE)) + in_use < self.search.trials

    def is_in_excess(self, number: int) -> bool:
        """Whether a trial that was just started is too many (`asr.search.trials.is_in_excess`)."""
        return is_in_excess(self._trials(), number, self.search.trials, self.search.retries)

    def tell(self, number: int, state: TrialState, per: float | None = None) -> None:
        """Record the outcome of a trial.

        Raises:
            UpdateFinishedTrialError: another worker took it for killed and failed it.
        """
        with suppress(UpdateFinishedTrialError):
            patiently(lambda: self.optuna.tell(number, per, state, skip_if_finished=True))
        if self._trials()[number].state != state:
            raise UpdateFinishedTrialError

    def best(self) -> float:
        """The lowest dev PER of a trial that ended, a fraction; NaN if all were pruned."""
        ended = [trial.value for trial in self._trials() if trial.state == TrialState.COMPLETE]
        return min((value for value in ended if value is not None), default=math.nan)

    def describe(self, number: int) -> str:
        """The outcome of a trial, and how far the study is."""
        trials = self._trials()
        trial = trials[number]
        rate = "no dev error rate" if trial.value is None else f"dev error rate {100 * trial.value:.2f} %"  # PER or CER
        done = f"{self._count(DONE)} of {self.search.trials} done, best {100 * self.best():.2f} %"
        given_up = len(failures(trials)) - len(lost_trials(trials, self.search.retries))
        if given_up:
            done += f", {given_up} given up after errors or kills"
        return f"trial {number}: {trial.state.name.lower()}, {rate}, epochs {len(trial.intermediate_values)}; {done}"

    def queue_again(self, number: int) -> None:
        """Fail a running trial and queue its settings, unless they are wrong or were queued too often."""
        self.tell(number, TrialState.FAIL)
        self._queue_lost_trials()

    def give_back(self, trial: optuna.Trial) -> None:
        """Fail a running trial that is superfluous."""
        patiently(lambda: trial.set_user_attr(SUPERFLUOUS, value=True))
        self.tell(trial.number, TrialState.FAIL)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Lock the settings whose folder has this name. Yields False if another process has them."""
        with ExitStack() as stack:
            try:
                stack.enter_context(open_run_lock(self.folder / "locks" / name))
            except InputError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                yield False
            else:
                yield True

    @contextmanager
    def heartbeats(self, trial: optuna.Trial) -> Iterator[None]:
        """Tell the other workers, time and again, that this trial is being trained."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.search.heartbeat_s):
                with suppress(StorageInternalError):  # the next one may get through
                    self.storage.record_heartbeat(trial._trial_id)

        patiently(lambda: self.storage.record_heartbeat(trial._trial_id))
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _trials(self) -> list[FrozenTrial]:
        return patiently(lambda: self.optuna.get_trials(deepcopy=False))

    def _count(self, states: tuple[TrialState, ...]) -> int:
        return sum(trial.state in states for trial in self._trials())

    def _queue_lost_trials(self) -> int:
        """Queue settings whose trial failed, unless a process still trains them; the number of those.

        Other workers may do the same at the same moment.
        """
        queue, in_use = RetryHeartbeatStaleTrialCallback(), set[str]()
        for trial in lost_trials(self._trials(), self.search.retries):
            name = trial.user_attrs[FOLDER]
            with self.lock(name) as free:
                pass
            if free:
                patiently(partial(queue, self.optuna, deepcopy(trial)))
            else:
                in_use.add(name)
        for name in sorted(in_use - self._in_use):
            print(f"settings {name}: a process that was taken for killed still trains them, waiting for it", flush=True)
        self._in_use = in_use
        return len(in_use)

    def _fail_killed_trials(self) -> None:
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number not in self._seen:  # killed before its first heartbeat, it would count as running for ever
                self.storage.record_heartbeat(trial._trial_id)
                self._seen.add(trial.number)
        fail_stale_trials(self.optuna)


def open_storage(search: SearchConfig) -> tuple[RDBStorage, optuna.Study]:
    """Open the database and the study in it; make what is missing.

    Raises:
        InputError: the database cannot be used.
    """
    url = parse_url(search.storage)
    connect_options = CONNECT_OPTIONS.get(url.get_backend_name(), {})
    for tries_left in (4, 3, 2, 1, 0):  # workers that start at once may make the same tables
        try:
            storage = RDBStorage(
                search.storage,
                {"connect_args": connect_options, "pool_pre_ping": True},
                heartbeat_interval=search.heartbeat_s,
                grace_period=MISSED_HEARTBEATS * search.heartbeat_s,
            )
            if url.get_backend_name() == "sqlite":
                lock_transactions(storage.engine)
            sampler, pruner = make_sampler(search), make_pruner(search)
            return storage, optuna.create_study(
                storage=storage, sampler=sampler, pruner=pruner, study_name=search.study, load_if_exists=True
            )
        except (SQLAlchemyError, StorageInternalError, ImportError) as error:
            if not tries_left or isinstance(error, ImportError):
                shown = url.render_as_string(hide_password=True)
                raise InputError(f"{shown}: {first_line(error)}, expected a database that answers") from error
            time.sleep(0.5)
    raise AssertionError


def lock_transactions(engine: Engine) -> None:
    """Let every transaction begin with the lock on SQLite's file.

    SQLite has no locks on rows, with which Optuna keeps two workers from taking the same queued settings.
    """
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # connections that were opened before


def parse_url(storage: str) -> URL:
    """Parse the URL of a database.

    Raises:
        InputError: it is none.
    """
    try:
        return make_url(storage)
    except ArgumentError as error:
        raise InputError(
            "configuration: search.storage is no URL, expected sqlite:///FILE or postgresql://..."
        ) from error


def make_sampler(search: SearchConfig) -> BaseSampler:
    """The sampler; a seed would draw the same settings again in every worker and after every restart."""
    if search.sampler == "random":
        return RandomSampler()
    return TPESampler(n_startup_trials=search.startup_trials, constant_liar=True)


def make_pruner(search: SearchConfig) -> BasePruner:
    """What stops trials: a PER worse than the median at that epoch, or in the worse half at epochs e, 2e, 4e and so on."""
    first = search.warmup_epochs + 1
    if search.pruner == "median":
        return MedianPruner(search.startup_trials, n_warmup_steps=first)
    if search.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
    return NopPruner()


def patiently(call: Callable[[], T]) -> T:
    """Call a function again while the database does not answer.

    Raises:
        InputError: it has not answered for `PATIENCE_S`.
    """
    started, wait_s = time.monotonic(), 1.0
    while True:
        try:
            return call()
        except StorageInternalError as error:
            if time.monotonic() - started > PATIENCE_S:
                raise InputError(f"database of the study: {first_line(error)}, expected one that answers") from error
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 30)


def first_line(error: Exception) -> str:
    """What a database's driver says, on one line."""
    return str(error.__cause__ or error).strip().splitlines()[0]
