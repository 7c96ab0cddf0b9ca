"""Several processes that train one model, started by torchrun, by accelerate, or by Slurm through submitit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from asr.config import TrainerConfig
from asr.errors import InputError, TrainingError
from asr.system.processor import Choice, choose_precision


def make_accelerator(trainer: TrainerConfig, run_dir: Path) -> Accelerator:
    """The device, the trackers, and the other processes.

    Raises:
        InputError: there is no such device, or the other processes cannot be joined.
    """
    cuda = torch.cuda.is_available()
    if trainer.device == "cuda" and not cuda:
        raise InputError("configuration: trainer.device is cuda, expected cpu or auto: no CUDA device is at hand")
    join_submitit_job()
    # Without a CUDA device it must be told to use the CPU: with `auto` it would let every process train by itself.
    accelerator = Accelerator(
        cpu=trainer.device == "cpu" or not cuda,
        log_with=list(trainer.trackers) or None,
        project_config=ProjectConfiguration(str(run_dir), logging_dir=str(run_dir)),
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise InputError(f"process group: {accelerator.num_processes} joined, expected {started} (WORLD_SIZE)")
    return accelerator


def common_precision(wanted: str, accelerator: Accelerator) -> Choice:
    """The precision of all processes: ``auto`` is bfloat16 only where each one's device computes in it."""
    choice = choose_precision(wanted, accelerator.device)
    if wanted != "auto" or accelerator.num_processes == 1:
        return choice
    able = torch.tensor(int(choice.name == "bfloat16"), device=accelerator.device)
    if int(accelerator.reduce(able)) == accelerator.num_processes or choice.name == "float32":
        return choice
    return Choice("float32", "the device of another process does not compute in bfloat16")


def join_submitit_job() -> None:
    """Where submitit has started several tasks, say which of them this is in the variables that torch reads."""
    if "SUBMITIT_EXECUTOR" not in os.environ or "RANK" in os.environ:
        return
    from submitit.helpers import TorchDistributedEnvironment  # there, or it would not have started this process

    job = TorchDistributedEnvironment()
    if job.world_size > 1:
        job.export(set_cuda_visible_devices=False)


@contextmanager
def report_lost_process(accelerator: Accelerator, checkpoints: Path) -> Iterator[None]:
    """End with one line where another process is gone.

    Raises:
        TrainingError: in place of what the communication library says then.
    """
    try:
        yield
    except (RuntimeError, torch.distributed.DistError) as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)  # which raises RuntimeErrors
        if accelerator.num_processes == 1 or not lost:
            raise
        who = f"process {accelerator.process_index} of {accelerator.num_processes}"
        reason = str(error).strip().splitlines()[0]
        saved = f"what is in {checkpoints} stands, resume=true goes on"
        raise TrainingError(f"{who} has lost the others ({reason}); {saved}") from error
