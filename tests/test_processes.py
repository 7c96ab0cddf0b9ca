"""Distributed training: the short form of `tests/faults/processes.py`, and how processes are started."""

import os
from pathlib import Path
from typing import Any

import pytest
import submitit
import torch

from asr.errors import InputError, TrainingError
from asr.training.distributed import join_submitit_job, make_accelerator, report_lost_process
from tests.conftest import settings
from tests.faults import processes


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tone_corpus: Path, tmp_path: Path) -> None:
    assert processes.compare_losses(tone_corpus, tmp_path, 20) <= processes.TOLERANCE


@pytest.mark.slow
def test_the_death_of_one_ends_the_other_and_two_go_on(tone_corpus: Path, tmp_path: Path) -> None:
    assert processes.kill_and_resume(tone_corpus, tmp_path, 0, 2, ["trainer.epochs=60"]) == []


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("asr.training.distributed.Accelerator", Lonely)
    with pytest.raises(InputError, match=r"process group: 1 joined, expected 2 \(WORLD_SIZE\)"):
        make_accelerator(settings().trainer, tmp_path)


class Lonely:
    num_processes = 1

    def __init__(self, **given: object) -> None:
        self.cpu = given["cpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="NOT TESTED: there is a CUDA device")
def test_without_a_cuda_device_the_cpu_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("asr.training.distributed.Accelerator", Lonely)
    assert make_accelerator(settings().trainer, tmp_path).cpu is True


def test_the_tasks_of_a_submitit_job_know_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores the variable
        monkeypatch.delenv(name)
    given = {"JOB_ID": "7", "JOB_NUM_NODES": "1", "NTASKS": "3", "GLOBALID": "2", "LOCALID": "2"}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    for name, value in given.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    assert submitit.JobEnvironment().num_tasks == 3
    join_submitit_job()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("2", "3", "2")


def test_only_what_the_communication_says_is_taken_for_a_lost_process(tmp_path: Path) -> None:
    class Pair:
        num_processes, process_index = 2, 0

    pair: Any = Pair()
    with pytest.raises(TrainingError, match="process 0 of 2 has lost the others"), report_lost_process(pair, tmp_path):
        raise RuntimeError("[third_party/gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(RuntimeError, match="out of memory"), report_lost_process(pair, tmp_path):
        raise RuntimeError("out of memory")
