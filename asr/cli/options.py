"""Arguments and options that several commands share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.errors import InputError
from asr.inference.catalog import find_model

if TYPE_CHECKING:
    from asr.inference.units import Run

Model = Annotated[
    Path,
    typer.Argument(
        parser=find_model, help="model folder, such as RUN_DIR/model of `asr train`, or a name from `asr models`"
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]


class Decoder(StrEnum):
    """Decoders from log-probabilities to phones."""

    best_path = "best_path"
    beam = "beam"


Search = Annotated[Decoder, typer.Option(help="beam: the search that `asr tune-decoder` has tuned")]


class Precision(StrEnum):
    """Numerical precision of recognition."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


Arithmetic = Annotated[
    Precision,
    typer.Option(help="auto: bfloat16 if the device computes in it, else float32; int8: CPU only, faster on most CPUs"),
]

Cluster = Annotated[
    str,
    typer.Option("--cluster", help="do the work on a Ray cluster: local, or its address, host:port or ray://host:port"),
]
Workers = Annotated[int, typer.Option(min=0, help="with --cluster: worker processes; 0: as many as there is room for")]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="go on without bad shards, `asr evaluate` also without bad audio; each is named"),
]


def finite(value: float | None) -> float | None:
    """Refuse NaN and infinity, as the callback of an option: its ``min`` and ``max`` let NaN pass.

    Raises:
        typer.BadParameter: it is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def check_workers(cluster: str, workers: int) -> None:
    """Refuse workers without a cluster, which would do nothing.

    Raises:
        InputError: there are any.
    """
    if workers and not cluster:
        raise InputError(f"--workers {workers} without --cluster, expected both")


@contextmanager
def choose_run(cluster: str, workers: int, device: str = "cpu") -> Iterator["Run"]:
    """What does units: the machine at hand, or a cluster, to which this connects.

    Raises:
        InputError: the cluster does not answer, or there are workers without one.
    """
    from asr.inference.units import run_here

    check_workers(cluster, workers)
    if not cluster:
        yield run_here
        return
    from asr.cluster.engine import open_cluster

    with open_cluster(cluster, workers, gpus=0 if device == "cpu" else 1) as run:
        yield run
