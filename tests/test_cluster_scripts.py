"""The scripts of recipes/cluster: a machine lost and replaced, a job that a real Slurm queues again; runs on Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr.cli.compose import combine, run_on_cluster
from asr.errors import InputError, Interrupted
from tests.conftest import TINY_MODEL
from tests.faults.processes import ranks_of
from tests.slurm import free_port, start_slurm

ROOT = Path(__file__).parents[1]
FAST = (*TINY_MODEL, "trainer.flat_start_epochs=1", "trainer.batch_utterances=4", "trainer.aligner_epochs=0")
SMALL = (
    *FAST,
    "experiment=speechocean762",
    "trainer.trackers=[]",
    "trainer.threads=1",
    "trainer.checkpoint_minutes=0.02",
)
TIMEOUT_S = 900.0


ON_REQUEST = pytest.mark.skipif(
    "ASR_CLUSTER_TESTS" not in os.environ,
    reason="SLURM, RAY AND TORCHRUN ARE NOT STARTED: set ASR_CLUSTER_TESTS=1 on a machine with nothing else to do",
)
"""These tests have limits of time that a busy machine misses."""


def wait_for(path: Path, text: str, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a log has a text so many times."""
    until = time.monotonic() + TIMEOUT_S
    while not path.exists() or path.read_text().count(text) < count:
        assert process.poll() is None, f"ended with {process.returncode} before {text!r} was in {path}"
        assert time.monotonic() < until, f"no {text!r} in {path}"
        time.sleep(0.2)


def epochs_of(run_dir: Path) -> list[int]:
    return [record["epoch"] for record in json.loads((run_dir / "history.json").read_text())]


@pytest.mark.parametrize("script", ["torchrun.sh", "slurm.sh"])
def test_the_scripts_say_what_they_expect(script: str) -> None:
    done = subprocess.run(["bash", ROOT / "recipes/cluster" / script, "one"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "arguments are 'one', expected " in done.stderr


def test_a_training_without_its_corpus_is_not_started_again_and_again(tmp_path: Path) -> None:
    script = str(ROOT / "recipes/cluster/torchrun.sh")
    command = ["bash", script, "127.0.0.1", "1", "1", f"corpus.dir={tmp_path}/data", f"run_dir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/data/cuts_train.jsonl.gz" in done.stderr
    assert not [*tmp_path.iterdir()]


def test_a_study_without_its_corpus_is_one_line(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "recipes/cluster/study.sh"), f"{tmp_path}/data", "model", f"{tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path / 'data'} has no cuts_train.jsonl.gz, expected " in done.stderr
    assert not [*tmp_path.iterdir()]


@ON_REQUEST
@pytest.mark.slow
def test_a_machine_is_lost_and_comes_back(tone_corpus: Path, tmp_path: Path) -> None:
    """Two launchers stand for two machines. The second one and its process are killed at once, and later started again."""
    run_dir, port = tmp_path / "run", free_port()
    arguments = [
        "127.0.0.1",
        "1:2",
        "1",
        *SMALL,
        "trainer.epochs=400",
        f"corpus.dir={tone_corpus}",
        f"run_dir={run_dir}",
    ]
    environment = os.environ | {"PORT": str(port), "LOCAL_ADDR": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def start(name: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / name).open("a") as log:
            command = ["bash", str(ROOT / "recipes/cluster/torchrun.sh"), *arguments]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    first = start("first")
    while subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"], capture_output=True).returncode:
        assert first.poll() is None
        time.sleep(0.2)  # the first machine is where the others meet
    second, log = start("second"), run_dir / "train.log"
    wait_for(log, "epoch 3 ", 1, first)
    for process in (second.pid, *ranks_of(second.pid).values()):
        os.kill(process, signal.SIGKILL)
    second.wait()
    wait_for(log, "resumed after", 1, first)
    second = start("second")
    assert (first.wait(TIMEOUT_S), second.wait(TIMEOUT_S)) == (0, 0), (tmp_path / "first").read_text()[-2000:]
    assert log.read_text().count("resumed after") == 2
    assert epochs_of(run_dir) == list(range(1, 401))
    assert (run_dir / "model" / "model.safetensors").exists()


@ON_REQUEST
@pytest.mark.slow
def test_slurm_queues_a_training_again(tone_corpus: Path, tmp_path: Path) -> None:
    """A job of two processes is requeued in its training; it continues, and the command waits for its end."""
    run_dir = tmp_path / "run"
    command = ["bash", str(ROOT / "recipes/cluster/slurm.sh"), "1", "2", *SMALL, "seed=1", "trainer.epochs=200"]
    with start_slurm() as environment:
        environment |= {"CPUS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with (tmp_path / "log").open("w") as output:
            arguments = [*command, f"corpus.dir={tone_corpus}", f"run_dir={run_dir}"]
            launcher = subprocess.Popen(arguments, env=environment, stdout=output, stderr=output)
        wait_for(run_dir / "0" / "train.log", "epoch 3 ", 1, launcher)
        job = subprocess.run(
            ["squeue", "-h", "-o", "%A"], env=environment, capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["scontrol", "requeue", job[0]], env=environment, check=True)
        assert launcher.wait(TIMEOUT_S) == 0, (tmp_path / "log").read_text()[-2000:]
    assert "resumed after" in (run_dir / "0" / "train.log").read_text()
    assert epochs_of(run_dir / "0") == list(range(1, 201))


def test_combinations_are_those_of_a_sweep() -> None:
    assert combine(["seed=1,2", "a=b"]) == [["seed=1", "a=b"], ["seed=2", "a=b"]]
    with pytest.raises(InputError, match="configuration: "):
        combine(["seed"])


@pytest.mark.parametrize("options", [[], ["--cfg", "job"]])
def test_a_cluster_is_for_many_runs(options: Sequence[str]) -> None:
    with pytest.raises(InputError, match="expected -m alone"):
        run_on_cluster(lambda *_: 0.0, [*options, "run_dir=x"], "local")


@ON_REQUEST
@pytest.mark.slow
def test_runs_and_workers_of_a_search_on_ray(tone_corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="RAY IS NOT TESTED: pip install 'asr-phones[ray]'")
    command = [sys.executable, "-m", "asr", "train", "-m", "--cluster", "local", *SMALL, "trainer.epochs=2"]
    common = [*command, f"corpus.dir={tone_corpus}"]
    done = subprocess.run([*common, "seed=1,2", f"run_dir={tmp_path / 'seeds'}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dev error rate") == 2
    for number in ("0", "1"):
        assert epochs_of(tmp_path / "seeds" / number) == [1, 2]
    search = [*common, "sweep=speechocean762", "search.worker=1,2", "search.trials=3", f"run_dir={tmp_path / 'search'}"]
    done = subprocess.run(search, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "search" / "trials").iterdir())) >= 3


def test_a_job_that_slurm_stops_leaves_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from asr.cli.compose import leave_to_slurm

    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    leave_to_slurm(Interrupted("stopped", signal.SIGTERM))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    leave_to_slurm(Interrupted("stopped", signal.SIGTERM))
    assert codes == [143]
