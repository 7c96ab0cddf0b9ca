"""`asr models`, `asr export`, `asr import-lstm`: list bundled models, export models, import weights."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Model
from asr.errors import InputError
from asr.inference.catalog import bundled_models, card_summary

commands = typer.Typer()


class Target(StrEnum):
    """Export formats."""

    onnx = "onnx"


class Weights(StrEnum):
    """Number formats of exported recurrent and output weights."""

    float32 = "float32"
    int8 = "int8"


@commands.command()
def models() -> None:
    """List the bundled models.

    Example: `asr models`

    Every command that takes a model folder also takes these names.
    """
    for name, path in bundled_models().items():
        print(f"{name}\t{card_summary(path)}")


@commands.command()
def export(
    model: Model,
    file: Annotated[Path, typer.Argument(help="file to write, for example phones.onnx")],
    to: Annotated[Target, typer.Option(help="export format")] = Target.onnx,
    features: Annotated[
        bool, typer.Option(help="include feature computation, so that the input is samples; otherwise it is features")
    ] = True,
    precision: Annotated[Weights, typer.Option(help="precision of the recurrent and output weights")] = Weights.float32,
) -> None:
    """Export a model for other runtimes.

    Example: `asr export english phones.onnx`

    examples/onnx_transcribe.py runs an exported model.
    """
    from asr.inference.bundle import load_bundle

    try:
        from asr.export.onnx import export_onnx
    except ImportError as error:
        raise InputError(f"{error.name}: not installed, expected it from `pip install 'asr-phones[onnx]'`") from error
    size = export_onnx(load_bundle(model), file, features, precision is Weights.int8)
    print(f"{file}: {to.value}, {precision.value}, {size:,} bytes, from {'samples' if features else 'features'}")


@commands.command(
    epilog="Overrides set the features and phones the model was trained with: features=mfcc features.bins=23 corpus=timit"
)
def import_lstm(
    file: Annotated[Path, typer.Argument(help="safetensors file with the state dict of an nn.LSTM or nn.GRU stack")],
    out: Annotated[Path, typer.Argument(help="model folder to write")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides for features and corpus")] = None,
    phones: Annotated[
        Path | None, typer.Option(help="file with one symbol per line, in the order of the outputs")
    ] = None,
) -> None:
    """Import the weights of a torch model as a model folder.

    Example: `asr import-lstm weights.safetensors imported features.bins=40 corpus.inventory=arpabet39`

    The torch model has a recurrent stack and a linear layer. Parameter names do not matter.
    """
    from asr.cli.compose import compose
    from asr.export.state_dict import import_state_dict, imported_model_card
    from asr.inference.bundle import save_bundle

    if out.exists():
        raise InputError(f"{out}: already exists, expected a new folder")
    bundle, mapping = import_state_dict(file, compose(["run_dir=unused", *(overrides or [])]), phones)
    save_bundle(bundle, out, imported_model_card(file, mapping))
    for ours, theirs, shape in mapping:
        print(f"{ours} <- {theirs} {list(shape)}")
    print(
        f"{out}: {bundle.model_config.layers} layers, {bundle.inventory.name}, time reduction {bundle.model.time_reduction}"
    )
