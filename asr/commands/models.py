"""``asr models`` and ``asr export``: models that are there, and models for other runtimes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.commands.options import Model
from asr.errors import InputError
from asr.models import available, summary

commands = typer.Typer()


class Target(StrEnum):
    """What a model is exported to."""

    onnx = "onnx"


class Weights(StrEnum):
    """Numbers of an exported model's recurrent and output weights."""

    float32 = "float32"
    int8 = "int8"


@commands.command()
def models() -> None:
    """The models that come with asr; their names serve wherever a model is asked for.

    Example: `asr models`
    """
    for name, path in available().items():
        print(f"{name}\t{summary(path)}")


@commands.command()
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(help="what to write, for example phones.onnx")],
    to: Annotated[Target, typer.Option(help="the format")] = Target.onnx,
    features: Annotated[bool, typer.Option(help="take samples and compute features, or take features")] = True,
    precision: Annotated[Weights, typer.Option(help="of the recurrent and output weights")] = Weights.float32,
) -> None:
    """Write a model for runtimes that know nothing of asr; see examples/onnx_transcribe.py.

    Example: `asr export speechocean762-small phones.onnx`
    """
    from asr.bundle import load_bundle

    try:
        from asr.export.onnx import export_onnx
    except ImportError as error:
        raise InputError(f"{error.name}: not installed, expected it from `pip install 'asr-phones[onnx]'`") from error
    size = export_onnx(load_bundle(model), file, features, precision is Weights.int8)
    print(f"{file}: {to.value}, {precision.value}, {size:,} bytes, from {'samples' if features else 'features'}")
