"""Distributed training: processes started by torchrun, accelerate, or Slurm through submitit, that train one model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, gather_object

from asr.config import TrainerConfig
from asr.errors import InputError, TrainingError
from asr.system.processor import PrecisionChoice, choose_precision, set_cudnn_exact
from asr.system.signals import StopRequest

T = TypeVar("T")


def make_accelerator(trainer: TrainerConfig, run_dir: Path) -> Accelerator:
    """Join the other processes, and choose the device, the number of threads and the trackers.

    Raises:
        InputError: there is no such device, or the other processes cannot be joined.
    """
    cuda = torch.cuda.is_available()
    if trainer.device == "cuda" and not cuda:
        raise InputError("configuration: trainer.device is cuda, expected cpu or auto: no CUDA device is at hand")
    join_submitit_job()
    if "WORLD_SIZE" not in os.environ:
        AcceleratorState._reset_state(True)  # that of an earlier training in this process, perhaps on another device
    # accelerate must be told to use the CPU: by default, without CUDA, it lets every process train a model of its own.
    accelerator = Accelerator(
        cpu=trainer.device == "cpu" or not cuda,
        log_with=list(trainer.trackers) or None,
        project_config=ProjectConfiguration(str(run_dir), logging_dir=str(run_dir)),
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise InputError(f"process group: {accelerator.num_processes} joined, expected {started} (WORLD_SIZE)")
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    set_cudnn_exact()
    return accelerator


def signal_in_any_process(accelerator: Accelerator, stop: StopRequest) -> int:
    """Not 0 if any process was asked to stop; the same in every process."""
    if accelerator.num_processes == 1:
        return stop.signal
    return int(accelerator.reduce(torch.tensor(stop.signal, device=accelerator.device)))


def gather(accelerator: Accelerator, found: T) -> list[T]:
    """What each process passed, in the order of the processes."""
    return [found] if accelerator.num_processes == 1 else gather_object([found])


def common_precision(wanted: str, accelerator: Accelerator) -> PrecisionChoice:
    """The precision of all processes: ``auto`` is bfloat16 only if every process's device computes in it."""
    choice = choose_precision(wanted, accelerator.device)
    if wanted != "auto" or accelerator.num_processes == 1:
        return choice
    able = torch.tensor(int(choice.name == "bfloat16"), device=accelerator.device)
    if int(accelerator.reduce(able)) == accelerator.num_processes or choice.name == "float32":
        return choice
    return PrecisionChoice("float32", "the device of another process does not compute in bfloat16")


def join_submitit_job() -> None:
    """If submitit started this process, set the environment variables that torch reads (rank, world size, address)."""
    if "SUBMITIT_EXECUTOR" not in os.environ or "RANK" in os.environ:
        return
    from submitit.helpers import TorchDistributedEnvironment  # installed, since submitit started this process

    job = TorchDistributedEnvironment()
    if job.world_size > 1:
        job.export(set_cuda_visible_devices=False)


@contextmanager
def report_lost_process(accelerator: Accelerator, checkpoints: Path) -> Iterator[None]:
    """Turn the communication library's error about a lost process into one line.

    Raises:
        TrainingError: another process ended.
    """
    try:
        yield
    except (RuntimeError, torch.distributed.DistError) as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)  # which raises RuntimeErrors
        if accelerator.num_processes == 1 or not lost:
            raise
        who = f"process {accelerator.process_index} of {accelerator.num_processes}"
        reason = str(error).strip().splitlines()[0]
        saved = f"{checkpoints} is intact, resume=true continues from it"
        raise TrainingError(f"{who} has lost the others ({reason}); {saved}") from error
