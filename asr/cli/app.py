"""The `asr` application: all commands together, `asr train`, and the exit statuses."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from asr.cli import (
    alignment,
    describe,
    evaluation,
    listen,
    models,
    prepare,
    pronunciation,
    server,
    shards,
    transcribe,
    tuning,
)
from asr.cli.options import Model
from asr.errors import InputError, Interrupted, TrainingError
from asr.system.process import TRAINING_KEPT_BYTES, tune_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(prepare.commands, name="prepare")
app.add_typer(pronunciation.commands, name="g2p")
app.add_typer(describe.commands)
app.add_typer(shards.commands)
app.add_typer(evaluation.commands)
app.add_typer(tuning.commands)
app.add_typer(transcribe.commands)
app.add_typer(listen.commands)
app.add_typer(alignment.commands)
app.add_typer(models.commands)
app.add_typer(server.commands)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib import metadata

        print(f"asr {metadata.version('asr-phones')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
    ] = False,
) -> None:
    """Train, evaluate and run phone recognizers."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="List all settings: `asr train run_dir=x --cfg job`. List their groups: `asr train --info defaults-tree`.",
)
def train(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Hydra overrides and options, such as -m or --cfg job")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="with -m: Ray cluster for the runs, `local`, HOST:PORT or ray://HOST:PORT")
    ] = None,
) -> None:
    """Train a model with Hydra settings and write it to RUN_DIR/model.

    Example: `asr train experiment=speechocean762 corpus.dir=data/speechocean762 run_dir=runs/first`

    Resume an interrupted run: the same command with `resume=true`. Sweep: `asr train -m seed=1,2,3 run_dir=runs/seeds`.
    Search with Optuna: `asr train -m sweep=speechocean762 ...`.
    """
    from asr.cli.compose import run_hydra
    from asr.training.loop import train as train_model

    tune_process(TRAINING_KEPT_BYTES)
    run_hydra(train_model, [*(overrides or []), *context.args], cluster)


@app.command()
def adapt(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest with 1 to 30 minutes of transcribed speech")],
    out: Annotated[Path, typer.Option(help="folder to write the adapted model to")],
    guard: Annotated[
        float, typer.Option(min=0, max=1, help="weight of staying as the model was: 0 only learns, 1 only keeps")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="random seed")] = 1,
) -> None:
    """Adapt a model to a speaker, a class or a room.

    Example: `asr adapt english my_class/cuts_train.jsonl.gz --out my_class/model`

    Prints the error rate on the same speech before and after. How it does on other speech, only `asr evaluate` tells.
    """
    from asr.scoring.results import headline
    from asr.training.adapt import adapt as adapt_model

    done = adapt_model(model, cuts, out, guard, seed)
    print(f"{done.seconds / 60:.1f} minutes of speech, {done.epochs} times; on this same speech:")
    print(f"before: {headline(done.before)}")
    print(f"after:  {headline(done.after)}")
    print(f"model: {out}")


def main() -> None:
    """Run the command line. An error is one line on standard error.

    Exit status: 2 bad input, 1 failed training, 128 + number of a signal, 141 closed pipe.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as in files, text is UTF-8 in every locale
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        tune_process()
        app()
    except InputError as error:
        print(f"asr: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"asr: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as interruption:
        print(f"asr: {interruption}", file=sys.stderr)
        sys.exit(128 + interruption.number)
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        # The reader of our output, such as head, has closed it. typer would exit with 1, as after a failed training.
        sys.exit(141)
    except OSError as error:  # such as a full disk; handlers closer to the cause give more context
        print(f"asr: {error.filename or 'output'}: {error.strerror or error}, expected a usable file", file=sys.stderr)
        sys.exit(2)
