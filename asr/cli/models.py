"""``asr models``, ``asr export``, ``asr import-lstm``: models that are there, and those of and for other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Model
from asr.errors import InputError
from asr.inference.catalog import available, summary

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
    from asr.inference.bundle import load_bundle

    try:
        from asr.export.onnx import export_onnx
    except ImportError as error:
        raise InputError(f"{error.name}: not installed, expected it from `pip install 'asr-phones[onnx]'`") from error
    size = export_onnx(load_bundle(model), file, features, precision is Weights.int8)
    print(f"{file}: {to.value}, {precision.value}, {size:,} bytes, from {'samples' if features else 'features'}")


@commands.command(
    epilog="Overrides choose what the model was trained with: features=mfcc features.bins=23 corpus=timit"
)
def import_lstm(
    file: Annotated[Path, typer.Argument(help="a safetensors file with the state dict of an nn.LSTM or nn.GRU stack")],
    out: Annotated[Path, typer.Argument(help="the model folder to write")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides of features and corpus")] = None,
    phones: Annotated[Path | None, typer.Option(help="a symbol a line, in the order of the outputs")] = None,
) -> None:
    """Make a model of the weights of a plain torch model: a recurrent stack and a linear layer, whatever their names.

    Example: `asr import-lstm weights.safetensors imported features.bins=40 corpus.inventory=arpabet39`
    """
    from asr.cli.compose import compose
    from asr.export.state_dict import card, import_state_dict
    from asr.inference.bundle import save_bundle

    if out.exists():
        raise InputError(f"{out}: exists already, expected a new folder")
    bundle, mapping = import_state_dict(file, compose(["run_dir=unused", *(overrides or [])]), phones)
    save_bundle(bundle, out, card(file, mapping))
    for ours, theirs, shape in mapping:
        print(f"{ours} <- {theirs} {list(shape)}")
    print(
        f"{out}: {bundle.model_config.layers} layers, {bundle.inventory.name}, time reduction {bundle.model.time_reduction}"
    )
