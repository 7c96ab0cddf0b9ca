"""The ``asr`` command: parses, calls one function, prints."""

import os
import sys
from typing import Annotated

import typer

from asr.cli import models, prepare, scoring, transcribe
from asr.errors import InputError, Interrupted, TrainingError
from asr.system.process import KEPT_IN_TRAINING, tune_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(prepare.commands, name="prepare")
app.add_typer(scoring.commands)
app.add_typer(transcribe.commands)
app.add_typer(models.commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"asr {metadata.version('asr-phones')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and stop")
    ] = False,
) -> None:
    """Phone recognition that anyone can train, trust and run."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Settings are listed by `asr train run_dir=x --cfg job`; groups of them by `asr train --info defaults-tree`.",
)
def train(
    context: typer.Context,
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides and options (-m, --cfg job)")] = None,
) -> None:
    """Train a model under a Hydra configuration; leaves RUN_DIR/model.

    Example: `asr train experiment=speechocean762 corpus.dir=data/speechocean762 run_dir=runs/first`

    Go on after an interruption: the same command with `resume=true`. Sweep: `asr train -m seed=1,2,3 run_dir=runs/seeds`.
    """
    from asr.cli.compose import run_hydra
    from asr.training.loop import train as train_model

    tune_process(KEPT_IN_TRAINING)
    run_hydra(train_model, [*(overrides or []), *context.args])


def main() -> None:
    """Run the command; bad input is one line on standard error and exit status 2."""
    try:
        tune_process()
        app()
    except InputError as error:
        print(f"asr: {error}", file=sys.stderr)
        sys.exit(2)
    except TrainingError as error:
        print(f"asr: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stopped:
        print(f"asr: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:  # the reader of our output (head, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # a disk that is full, say, where nothing closer to it had more to add
        print(f"asr: {error.filename or 'output'}: {error.strerror or error}, expected to be usable", file=sys.stderr)
        sys.exit(2)
