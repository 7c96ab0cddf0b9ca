"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.inference.catalog import find_model

Model = Annotated[
    Path,
    typer.Argument(
        parser=find_model, help="model folder, as `asr train` leaves it in RUN_DIR/model, or a name of `asr models`"
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]


class Decoder(StrEnum):
    """How phones come out of log-probabilities."""

    best_path = "best_path"
    beam = "beam"


class Precision(StrEnum):
    """Arithmetic of recognition."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


Arithmetic = Annotated[
    Precision,
    typer.Option(
        help="auto: bfloat16 where the device computes in it, else float32; int8, on CPU alone, is faster on most"
    ),
]
