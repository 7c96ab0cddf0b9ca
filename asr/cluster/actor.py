"""What does units in a process of the cluster, and what it needs."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from asr.errors import InputError
from asr.inference.units import Make
from asr.system.process import tune_process

PACKAGES = ("asr-phones", "torch")
"""Their releases must be the same on all machines."""


@dataclass(frozen=True)
class Resources:
    """What an actor needs, and the number of actors, 0 for as many as the cluster has room for."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 0


class Actor:
    """Does units in a process of the cluster."""

    def __init__(self) -> None:
        tune_process()  # before the arguments of `start` import torch

    def start(self, make: Make[Any, Any], releases: dict[str, str], folder: str) -> tuple[str, str, InputError | None]:
        """Load what the work needs. Returns the id and the name of the node, and the error if it cannot be used.

        ``folder`` is the command's working directory: relative paths then mean what they mean there.
        """
        import ray

        with suppress(OSError):  # this machine has no such folder, and needs none if all paths are absolute
            os.chdir(folder)

        node, name = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
        try:
            for package, release in installed_releases().items():
                if release != releases[package]:
                    raise InputError(
                        f"{package} {release}, expected {releases[package]} as on the machine of the command"
                    )
            self.work = make()
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(1)
        except InputError as error:
            return node, name, error
        return node, name, None

    def do(self, unit: Any) -> tuple[Any, InputError | None]:
        """Do a unit."""
        try:
            return self.work(unit), None
        except InputError as error:
            return None, error


def installed_releases() -> dict[str, str]:
    """The releases that are installed, by package."""
    return {package: metadata.version(package) for package in PACKAGES}


def kill(actor: Any) -> None:
    """End an actor and its process, if there is still one."""
    import ray

    with suppress(Exception):  # it is gone, or the cluster is
        ray.kill(actor)
