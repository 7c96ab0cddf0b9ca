"""Searches for settings: trials are pruned, resumed, and counted once, whoever is killed, on SQLite and on PostgreSQL."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from asr.cli.compose import check_one_process, compose_unchecked, parse_space, run_hydra
from asr.config import TrainConfig, from_mapping
from asr.errors import InputError, Interrupted, TrainingError
from asr.search.settings import Interval, SearchConfig, Values
from asr.system.lock import open_run_lock
from tests.conftest import TINY_MODEL
from tests.postgres import Postgres, start_postgres

pytest.importorskip("optuna", "4.9", "SEARCHES ARE NOT TESTED: no Optuna, pip install 'asr-phones[sweep]'")

import optuna
from optuna.trial import TrialState

import asr.search.study
from asr.search.study import Study, patiently
from asr.search.worker import AfterEpoch, run_trial, work_on_study
from tests.faults import search as faults

FAST = (
    *TINY_MODEL,
    "trainer.epochs=4",
    "trainer.flat_start_epochs=1",
    "trainer.trackers=[]",
    "trainer.aligner_epochs=0",
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with start_postgres() as server:
        yield server


@pytest.fixture
def search(tmp_path: Path) -> SearchConfig:
    return faults.settings(f"sqlite:///{tmp_path / 'study.db'}", 6)


def open_study(search: SearchConfig) -> Study:
    """Open a study whose run folders are beside its database."""
    return Study(search, Path(search.storage.removeprefix("sqlite:///")).parent)


def states(search: SearchConfig) -> list[str]:
    return [trial.state.name for trial in open_study(search).optuna.get_trials()]


def report(after_epoch: AfterEpoch, pers: Sequence[float]) -> float:
    """Report an epoch after the other, as a training does."""
    for epoch in range(1, len(pers) + 1):
        history = [{"epoch": number + 1, "dev_per": pers[number]} for number in range(epoch)]
        after_epoch(history, epoch == len(pers))
    return pers[-1]


def test_ranges_are_written_as_in_a_sweep() -> None:
    written = {
        "a": "tag(log, interval(1e-4, 1))",
        "b": "range(0, 7)",
        "c": "choice(lstm, gru)",
        "d": "int(interval(2, 5))",
        "e": "40,80",
    }
    expected = {"a": Interval(1e-4, 1.0, log=True), "b": Interval(0, 6), "c": ["lstm", "gru"], "d": Interval(2, 5)}
    assert parse_space(written) == expected | {"e": ["40", "80"]}
    for text in ("3", "interval(1", "shuffle(range(1, 3))x"):
        with pytest.raises(InputError, match="search.params"):
            parse_space({"a": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(1, 0.5)", "LOW <= HIGH"),
        ("interval(0, inf)", "both finite"),
        ("range(3, 3)", "LOW <= HIGH"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("tag(log, range(0, 9))", "above 0"),
    ],
)
def test_a_range_without_numbers_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"search.params.a is {re.escape(text)}, expected .*{expected}"):
        parse_space({"a": text})
    assert parse_space({"a": "tag(log, range(1, 9))"}) == {"a": Interval(1, 8, log=True)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b", "c"], r"search.params.x is choice\(a, b, c\), expected choice\(a, b\) as in study faults"),
        (Interval(1, 5), r"search.params.x is range\(1, 6\), expected choice\(a, b\) as in study faults"),
    ],
)
def test_values_that_the_study_cannot_take_are_one_line(
    search: SearchConfig, tmp_path: Path, values: Values, message: str
) -> None:
    work_on_study(replace(search, trials=1), {"x": ["a", "b"]}, tmp_path, lambda _, __, after: report(after, [0.5]))
    for space in ({"x": values}, {"y": Interval(0.0, 1.0, log=True)}):
        with pytest.raises(InputError, match=message if "x" in space else r"search.params.y is tag\(log, interval"):
            work_on_study(search, space, tmp_path, lambda *_: pytest.fail("trained"))
    assert states(search) == ["COMPLETE", "FAIL", "FAIL"]


def test_the_settings_of_a_search_are_checked() -> None:
    composed = compose_unchecked(["run_dir=runs/x", "sweep=speechocean762", "search.pruner=asha"])
    OmegaConf.resolve(composed)
    with pytest.raises(InputError, match="search.pruner is 'asha', expected one of median, halving, none"):
        from_mapping(SearchConfig, composed.search, "search")
    with pytest.raises(InputError, match="sweep is set for a single run, expected asr train -m"):
        run_hydra(lambda *_: 0.0, ["run_dir=runs/x", "sweep=speechocean762"])


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("study.db", "search.storage is no URL"),
        ("sqlite:////nowhere/study.db", "sqlite:////nowhere/study.db: .*unable to open"),
        ("postgresql://me:secret@127.0.0.1:1/asr", r"postgresql://me:\*\*\*@127.0.0.1:1/asr: .*refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(search: SearchConfig, storage: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        open_study(replace(search, storage=storage))
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_poor_trial_is_stopped_and_counted(search: SearchConfig, tmp_path: Path) -> None:
    """By hand: four trials end with 0.5; then 0.9 after two epochs is above the median, 0.4 is not."""
    pers = iter([[0.8, 0.6, 0.5]] * 4 + [[0.95, 0.9, 0.85], [0.9, 0.4, 0.3]])
    best = work_on_study(search, faults.SPACE, tmp_path, lambda _, __, after_epoch: report(after_epoch, next(pers)))
    assert best == 0.3
    trials = open_study(search).optuna.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4 + ["PRUNED", "COMPLETE"]
    assert trials[4].intermediate_values == {1: 0.95, 2: 0.9}
    assert work_on_study(search, faults.SPACE, tmp_path, lambda *_: pytest.fail("all is done")) == 0.3


def test_halving_keeps_the_better_half(search: SearchConfig, tmp_path: Path) -> None:
    """With no warm-up the first comparison is after epoch 1, where the second of two is worse."""
    halving = replace(search, pruner="halving", warmup_epochs=0, trials=2)
    pers = iter([[0.5, 0.4, 0.3, 0.2], [0.6, 0.1, 0.1, 0.1]])
    work_on_study(halving, faults.SPACE, tmp_path, lambda _, __, after_epoch: report(after_epoch, next(pers)))
    assert states(halving) == ["COMPLETE", "PRUNED"]


def test_settings_that_diverge_count_and_bad_input_ends_the_worker(search: SearchConfig, tmp_path: Path) -> None:
    outcomes: Iterator[Any] = iter([TrainingError("loss is nan"), InputError("no such corpus")])

    def train(*_: object) -> float:
        raise next(outcomes)

    with pytest.raises(InputError, match="no such corpus"):
        work_on_study(search, faults.SPACE, tmp_path, train)
    trials = open_study(search).optuna.get_trials()
    assert [trial.state.name for trial in trials] == ["PRUNED", "FAIL"]
    assert trials[0].user_attrs["error"] == "loss is nan"


def test_a_stopped_training_is_queued_again_in_its_folder(search: SearchConfig, tmp_path: Path) -> None:
    taken: list[tuple[Sequence[str], Path]] = []

    def train(overrides: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        taken.append((overrides, run_dir))
        if len(taken) == 1:
            raise Interrupted("stopped", signal.SIGTERM)
        return report(after_epoch, [0.5])

    one = replace(search, trials=1)
    with pytest.raises(Interrupted):
        work_on_study(one, faults.SPACE, tmp_path, train)
    assert states(one) == ["FAIL", "WAITING"]
    assert work_on_study(one, faults.SPACE, tmp_path, train) == 0.5
    assert taken[0] == taken[1]
    assert states(one) == ["FAIL", "COMPLETE"]


@pytest.mark.slow
def test_a_trial_that_was_killed_before_its_first_heartbeat_is_replaced(search: SearchConfig, tmp_path: Path) -> None:
    open_study(search).optuna.ask()
    assert states(search) == ["RUNNING"]
    one = replace(search, trials=1)
    assert work_on_study(one, faults.SPACE, tmp_path, lambda _, __, after_epoch: report(after_epoch, [0.5])) == 0.5
    assert sorted(states(search)) == ["COMPLETE", "FAIL"]


def test_workers_that_ask_at_once_give_back_what_is_too_much(search: SearchConfig) -> None:
    study = open_study(replace(search, trials=2))
    numbers = [study.optuna.ask().number for _ in range(4)]
    assert [study.is_in_excess(number) for number in numbers] == [False, False, True, True]
    study.tell(numbers[0], TrialState.FAIL)
    assert [study.is_in_excess(number) for number in numbers[1:]] == [False, False, True]


def begin(study: Study) -> optuna.Trial:
    trial = study.optuna.ask()
    trial.set_user_attr("folder", trial.user_attrs.get("folder", f"{trial.number:04d}"))
    return trial


def test_who_finds_lost_settings_queues_them_again(search: SearchConfig) -> None:
    """A worker marked a trial failed and was killed, or is not yet at queueing it: others neither lose nor replace it."""
    study = open_study(replace(search, trials=1))
    begin(study)
    study.tell(0, TrialState.FAIL)
    assert study.has_room()
    assert states(search) == ["FAIL", "WAITING"]
    assert study.has_room()
    assert states(search) == ["FAIL", "WAITING"], "queued once"
    assert begin(study).user_attrs["folder"] == "0000"
    assert not study.has_room()


def begin_twice(study: Study) -> tuple[optuna.Trial, optuna.Trial]:
    """Two trials with the settings of one that failed: two workers queued them at the same moment."""
    begin(study)
    study.tell(0, TrialState.FAIL)
    failed = study.optuna.get_trials()[0]
    for _ in range(2):
        optuna.storages.RetryHeartbeatStaleTrialCallback()(study.optuna, failed)
    return begin(study), begin(study)


def test_settings_that_two_workers_queued_are_trained_once(search: SearchConfig) -> None:
    study = open_study(replace(search, trials=3))
    first, second = begin_twice(study)
    assert first.user_attrs == second.user_attrs == {"folder": "0000"}
    assert not study.is_in_excess(first.number)
    assert study.is_in_excess(second.number)
    study.give_back(second)
    study.tell(first.number, TrialState.COMPLETE, 0.5)
    assert study.has_room()
    assert states(search) == ["FAIL", "COMPLETE", "FAIL"], "what was given back is not queued again"


def test_settings_queued_again_come_before_new_ones(search: SearchConfig) -> None:
    """Of two trials wanted, one was killed; a worker that did not know of it yet started a third."""
    study = open_study(replace(search, trials=2))
    begin(study)
    begin(study)
    third = begin(study)
    study.tell(0, TrialState.FAIL)
    assert study.is_in_excess(third.number)
    study.queue_again(0)
    again = begin(study)
    assert study.is_in_excess(third.number)
    assert not study.is_in_excess(again.number)


def test_settings_that_kill_each_worker_are_given_up(search: SearchConfig) -> None:
    study = open_study(replace(search, trials=1, retries=2))
    for _ in range(3):
        study.tell(begin(study).number, TrialState.FAIL)
        assert study.has_room()
    assert begin(study).user_attrs["folder"] == "0003", "new settings"


def test_a_worker_that_was_taken_for_killed_drops_its_result(search: SearchConfig, tmp_path: Path) -> None:
    one, calls = replace(search, trials=1), []

    def train(overrides: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        calls.append(run_dir)
        if len(calls) == 1:  # suspended for long: another worker queues it again
            open_study(one).queue_again(0)
        return report(after_epoch, [0.5, 0.4])

    assert work_on_study(one, faults.SPACE, tmp_path, train) == 0.4
    assert states(one) == ["FAIL", "COMPLETE"]


def test_the_checkpoints_of_a_worker_that_was_taken_for_killed_are_kept(search: SearchConfig, tmp_path: Path) -> None:
    """It ends without another report, as a training that was resumed after its last epoch does."""
    one, found = replace(search, trials=1), []

    def train(overrides: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        found.append((run_dir / "checkpoints").exists())
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        if len(found) == 1:
            open_study(one).tell(0, TrialState.FAIL)
        return 0.5

    work_on_study(one, faults.SPACE, tmp_path, train)
    assert found == [False, True]
    assert states(one) == ["FAIL", "COMPLETE"]
    assert not (tmp_path / "0000" / "checkpoints").exists(), "the trial is complete"


@pytest.mark.parametrize("in_excess", [False, True])
def test_a_worker_taken_for_killed_before_it_trains_goes_on(
    search: SearchConfig, monkeypatch: pytest.MonkeyPatch, in_excess: bool
) -> None:
    study = open_study(search)

    def suspend(number: int) -> bool:
        open_study(search).tell(number, TrialState.FAIL)
        return in_excess

    monkeypatch.setattr(study, "is_in_excess", suspend)
    run_trial(study, faults.SPACE, lambda *_: pytest.fail("trained"))
    assert states(search) == ["FAIL"]


def test_settings_that_cannot_begin_are_not_tried_again(search: SearchConfig, tmp_path: Path) -> None:
    """Not even if their worker was killed before, which queued them again."""
    study, taken = open_study(replace(search, trials=1)), []
    begin(study)
    study.tell(0, TrialState.FAIL)

    def train(_: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        taken.append(run_dir.name)
        if run_dir.name == "0000":
            raise InputError("these settings are wrong")
        return report(after_epoch, [0.5])

    with pytest.raises(InputError, match="these settings are wrong"):
        work_on_study(study.search, faults.SPACE, tmp_path, train)
    assert work_on_study(study.search, faults.SPACE, tmp_path, train) == 0.5
    assert taken == ["0000", "0002"]
    assert "dev error rate 50.00 %" in study.describe(2)  # of phones or graphemes: the study does not know
    assert study.describe(2).endswith("1 given up after errors or kills")


def test_wrong_settings_that_were_queued_twice_are_given_back(search: SearchConfig) -> None:
    study = open_study(search)
    first, second = begin_twice(study)
    first.set_user_attr("wrong", "no such layer")
    study.tell(first.number, TrialState.FAIL)
    assert study.is_in_excess(second.number)


@pytest.mark.parametrize("progress", ["epoch", "checkpoint"])
def test_an_error_in_a_training_queues_it_again_a_few_times(
    search: SearchConfig, tmp_path: Path, progress: str
) -> None:
    """Each worker ends with the error; after one retry the settings are given up, as they may cause it."""
    one, taken = replace(search, trials=1, retries=1), []

    def train(_: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        taken.append(run_dir.name)
        if run_dir.name == "0000" and progress == "epoch":
            after_epoch([{"epoch": 1, "dev_per": 0.6}], False)
        elif run_dir.name == "0000":
            (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        if run_dir.name == "0000":
            raise InputError("the store does not answer")
        return report(after_epoch, [0.5])

    for _ in range(2):
        with pytest.raises(InputError, match="the store does not answer"):
            work_on_study(one, faults.SPACE, tmp_path, train)
    assert work_on_study(one, faults.SPACE, tmp_path, train) == 0.5
    assert taken == ["0000", "0000", "0002"]
    assert open_study(one).describe(2).endswith("1 given up after errors or kills")


def test_settings_in_use_are_neither_queued_nor_replaced(search: SearchConfig) -> None:
    study = open_study(replace(search, trials=2, retries=1))
    begin(study)
    study.tell(0, TrialState.FAIL)
    with study.lock("0000") as free:
        assert free
        assert study.has_room(), "for one more"
        begin(study)
        assert not study.has_room()
        assert states(search) == ["FAIL", "RUNNING"]
    assert study.has_room()
    assert states(search) == ["FAIL", "RUNNING", "WAITING"]
    with study.lock("0000"):  # again, before a worker takes what is queued
        run_trial(study, faults.SPACE, lambda *_: pytest.fail("trained twice at once"))
    assert states(search) == ["FAIL", "RUNNING", "FAIL"]
    assert study.has_room()
    assert states(search) == ["FAIL", "RUNNING", "FAIL", "WAITING"], "what is given back is no retry"


def test_a_worker_that_was_suspended_is_waited_for(search: SearchConfig, tmp_path: Path) -> None:
    one = replace(search, trials=1)
    begun, awake, results = threading.Event(), threading.Event(), []

    def train(_: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        with open_run_lock(run_dir):
            if not begun.is_set():
                begun.set()
                awake.wait(30)
            return report(after_epoch, [0.5])

    def work() -> None:
        results.append(work_on_study(one, faults.SPACE, tmp_path, train))

    suspended = threading.Thread(target=work)
    suspended.start()
    assert begun.wait(30)
    open_study(one).tell(0, TrialState.FAIL)  # as after three missed heartbeats
    threading.Timer(1.5, awake.set).start()
    work()
    suspended.join()
    assert results == [0.5, 0.5]
    assert states(one) == ["FAIL", "COMPLETE"]


@pytest.mark.slow
def test_no_trial_is_lost_or_counted_twice_when_workers_are_killed(tmp_path: Path) -> None:
    assert faults.check(f"sqlite:///{tmp_path / 'study.db'}", tmp_path, workers=3, trials=8, kills=3, seed=1) == []


@pytest.mark.slow
def test_the_same_on_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    assert faults.check(postgres.url, tmp_path, workers=3, trials=15, kills=8, seed=2) == []


@pytest.mark.slow
def test_a_worker_waits_for_a_server_that_restarts(postgres: Postgres, tmp_path: Path) -> None:
    search = replace(faults.settings(postgres.url, 2), study="restart")
    restarted = threading.Event()

    def restart() -> None:
        time.sleep(2)
        postgres.start()
        restarted.set()

    def train(overrides: Sequence[str], run_dir: Path, after_epoch: AfterEpoch) -> float:
        if not restarted.is_set():
            postgres.stop()
            threading.Thread(target=restart).start()
        return report(after_epoch, [0.5])

    assert work_on_study(search, faults.SPACE, tmp_path, train) == 0.5
    assert restarted.is_set()
    assert "COMPLETE" in states(search)


def test_a_database_that_stays_away_ends_the_worker_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr.search.study, "PATIENCE_S", 0.0)

    def fail() -> None:
        raise optuna.exceptions.StorageInternalError("the server\nis away")

    with pytest.raises(InputError, match="database of the study: the server, expected one that answers"):
        patiently(fail)


def test_a_worker_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="a worker of a search has 2 processes, expected 1"):
        check_one_process()


def test_a_search_trains_prunes_and_resumes(tone_corpus: Path, tmp_path: Path) -> None:
    """With Hydra, in this process: three trials, one of which an interruption queues again."""
    from asr.training.loop import train

    run_dir, calls = tmp_path / "search", []

    def task(config: TrainConfig, folder: Path, after_epoch: Any = None) -> float:
        calls.append(folder)
        assert str(folder) == config.run_dir

        def hook(history: Sequence[Any]) -> None:
            if len(calls) == 2 and len(history) == 2:  # before this trial can be pruned
                raise Interrupted("stopped", signal.SIGTERM)
            after_epoch(history)

        return train(config, folder, hook)

    command = ["-m", "sweep=speechocean762", "experiment=speechocean762", *FAST, f"corpus.dir={tone_corpus}"]
    options = [f"run_dir={run_dir}", "search.trials=3", "search.startup_trials=1"]
    with pytest.raises(Interrupted):
        run_hydra(task, [*command, *options])
    run_hydra(task, [*command, *options])
    study = optuna.load_study(study_name="speechocean762", storage=f"sqlite:///{run_dir / 'study.db'}")
    assert [trial.state.name for trial in study.trials][:2] == ["COMPLETE", "FAIL"]
    assert [trial.user_attrs["folder"] for trial in study.trials][:3] == ["0000", "0001", "0001"]
    done = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(done) == 3
    assert done[0].params.keys() >= {"optimizer.learning_rate", "trainer.batch_seconds"}
    assert "resumed after epoch 2" in (run_dir / "trials" / "0001" / "train.log").read_text()
    assert (run_dir / "trials" / "0000" / "model" / "model.safetensors").exists()
    assert not list((run_dir / "trials").glob("*/checkpoints"))


@pytest.mark.slow
def test_killed_commands_finish_the_study_together(tone_corpus: Path, tmp_path: Path, postgres: Postgres) -> None:
    """Two commands on one study; one is killed in its training, later the other; a third one ends what they began."""
    run_dir = tmp_path / "search"
    command = [sys.executable, "-m", "asr", "train", "-m", "sweep=speechocean762", "experiment=speechocean762", *FAST]
    command += [f"corpus.dir={tone_corpus}", f"run_dir={run_dir}", f"search.storage={postgres.url}"]
    command += ["search.study=commands", "search.trials=5", "search.heartbeat_s=1", "trainer.epochs=20"]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    workers = [start(), start()]
    for number, worker in enumerate(workers):
        while len(list(run_dir.glob("trials/*/checkpoints/last.pt"))) <= number and worker.poll() is None:
            time.sleep(0.05)
        worker.kill()
        worker.wait()
    last = start()
    _, errors = last.communicate()
    assert last.returncode == 0, errors.decode()[-2000:]
    study = optuna.load_study(study_name="commands", storage=postgres.url)
    found = [trial.state.name for trial in study.trials]
    assert found.count("COMPLETE") + found.count("PRUNED") == 5
    assert found.count("FAIL") >= 1
    assert "RUNNING" not in found
    folders = [trial.user_attrs["folder"] for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(set(folders)) == 5
