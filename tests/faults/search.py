"""Kill and suspend the workers of a search at random: no trial may be lost, counted twice, or trained twice at once.

    python -m tests.faults.search [--storage URL] [--workers 3] [--trials 30] [--kills 20] [--seed 1]

The workers are processes that share one study; their trainings are imitated, with a checkpoint after every epoch. Some
are suspended until the others have taken them for killed. Exits with 1 if a check fails.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from asr.search.settings import Interval, SearchConfig, Space
from asr.search.study import Study
from asr.search.worker import work_on_study
from asr.system.lock import open_run_lock

EPOCHS, EPOCH_S = 5, 0.2
SUSPENDED_S = 6.0
"""Longer than the three heartbeats after which a worker counts as killed."""

SPACE: Space = {"x": Interval(0.0, 1.0), "layers": Interval(1, 4), "cell": ["lstm", "gru"]}


def settings(storage: str, trials: int) -> SearchConfig:
    """The settings of the search."""
    return SearchConfig(
        study="faults",
        storage=storage,
        trials=trials,
        worker=0,
        sampler="random",
        pruner="median",
        startup_trials=4,
        warmup_epochs=1,
        heartbeat_s=1,
        retries=100,
        params={},
    )


def imitate(
    overrides: Sequence[str], run_dir: Path, after_epoch: Callable[[list[dict[str, Any]], bool], None]
) -> float:
    """Imitate a training that resumes: the PER falls to that of its settings. Logs each epoch that it trains."""
    with open_run_lock(run_dir):  # as a training does; raises InputError if another process trains there
        return imitate_epochs(overrides, run_dir, after_epoch)


def imitate_epochs(
    overrides: Sequence[str], run_dir: Path, after_epoch: Callable[[list[dict[str, Any]], bool], None]
) -> float:
    """The epochs that are left to train."""
    best = sum(float(text.split("=")[1]) for text in overrides if text.startswith("x="))
    log = run_dir / "epochs"
    done = log.read_text().count("\n") if log.exists() else 0
    (run_dir.parent / f"training.{os.getpid()}").touch()
    for epoch in range(done, EPOCHS + 1):
        history = [{"epoch": number + 1, "dev_per": best + 1 / (1 + number)} for number in range(epoch)]
        if history:
            after_epoch(history, epoch == EPOCHS)
        if epoch < EPOCHS:
            time.sleep(EPOCH_S)
            with log.open("a") as file:
                file.write(" ".join(overrides) + "\n")
    return best


def kill_workers(storage: str, folder: Path, workers: int, trials: int, kills: int, seed: int) -> None:
    """Keep ``workers`` processes at work until the study is done, kill ``kills`` of them and suspend a third as many.

    One kill of four comes at any moment, the others and the suspensions after the worker's first training has begun.
    """
    draw = random.Random(seed)
    command = [sys.executable, "-m", "tests.faults.search", "--work", str(folder), "--storage", storage]
    command += ["--trials", str(trials)]
    processes = [subprocess.Popen(command) for _ in range(workers)]
    suspensions = kills // 3
    while any(process.poll() is None for process in processes):
        time.sleep(draw.uniform(0.1, 1.5))
        training = [n for n, process in enumerate(processes) if (folder / f"training.{process.pid}").exists()]
        victims = training if kills % 4 else range(workers)
        if suspensions > kills // 3 and len(training) > 1:  # another one takes it for killed
            suspended = processes[draw.choice(training)]
            suspended.send_signal(signal.SIGSTOP)
            time.sleep(SUSPENDED_S)
            suspended.send_signal(signal.SIGCONT)
            suspensions -= 1
        elif kills and victims:
            victim = draw.choice(victims)
            processes[victim].send_signal(signal.SIGKILL)
            processes[victim].wait()
            processes[victim] = subprocess.Popen(command)
            kills -= 1
    codes = [process.returncode for process in processes]
    if any(codes):
        raise SystemExit(f"workers ended with {codes}, expected 0")


def problems(trials: Sequence[FrozenTrial], wanted: int, folder: Path) -> list[str]:
    """What is wrong with a study that is done."""
    found = []
    states = Counter(trial.state for trial in trials)
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(done) != wanted or states[TrialState.RUNNING]:
        found.append(f"{dict(states)}, expected {wanted} done and none running")
    folders = [trial.user_attrs["folder"] for trial in done]
    if len(set(folders)) != len(folders):
        found.append("the same settings were counted twice")
    lost = {
        trial.user_attrs["folder"]
        for trial in trials
        if trial.state == TrialState.FAIL and "folder" in trial.user_attrs
    }
    if lost - set(folders):
        found.append(f"lost: {lost - set(folders)}")
    for trial in done:
        epochs = (folder / trial.user_attrs["folder"] / "epochs").read_text().splitlines()
        if len(set(epochs)) != 1 or f"x={trial.params['x']} " not in epochs[0] + " ":
            found.append(f"trial {trial.number} was trained with other settings: {set(epochs)}")
        if trial.state == TrialState.COMPLETE and len(epochs) != EPOCHS:
            found.append(f"trial {trial.number} trained {len(epochs)} epochs, expected {EPOCHS}")
        if sorted(trial.intermediate_values) != list(range(1, len(trial.intermediate_values) + 1)):
            found.append(f"trial {trial.number} reported {trial.intermediate_values}")
    return found


def check(storage: str, folder: Path, workers: int, trials: int, kills: int, seed: int) -> list[str]:
    """Run a search whose workers are killed; return the problems."""
    kill_workers(storage, folder, workers, trials, kills, seed)
    study = Study(settings(storage, trials), folder).optuna.get_trials()
    states: Mapping[Any, int] = Counter(trial.state.name for trial in study)
    print(f"{workers} workers, {kills} kills: {dict(states)}")
    return problems(study, trials, folder)


def main() -> None:
    """Run the check and print the problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", default="")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work_on_study(settings(args.storage, args.trials), SPACE, args.work, imitate)
        return
    with tempfile.TemporaryDirectory() as folder:
        storage = args.storage or f"sqlite:///{folder}/study.db"
        found = check(storage, Path(folder), args.workers, args.trials, args.kills, args.seed)
    if found:
        raise SystemExit("\n".join(found))
    print("no trial was lost or counted twice")


if __name__ == "__main__":
    main()
