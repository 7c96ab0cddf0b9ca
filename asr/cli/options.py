"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.inference.catalog import find_model

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
