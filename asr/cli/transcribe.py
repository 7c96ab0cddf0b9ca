"""`asr transcribe`: the phones of recordings, with their times."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.listen import STREAMING_MODEL, read_standard_input, recognize
from asr.cli.options import Arithmetic, Decoder, Device, Precision, Search
from asr.errors import InputError
from asr.inference.catalog import DEFAULT_MODEL, find_model

commands = typer.Typer()

ModelOption = Annotated[str, typer.Option("--model", help="model folder, or a name from `asr models`")]


class Format(StrEnum):
    """Output formats."""

    text = "text"
    json = "json"
    ctm = "ctm"
    textgrid = "textgrid"
    phn = "phn"


class Notation(StrEnum):
    """Phone notations of the output."""

    model = "model"
    timit = "timit"
    arpabet = "arpabet"
    ipa = "ipa"
    xsampa = "xsampa"


Formats = Annotated[list[Format], typer.Option("--format", help="output format; with --out it may be repeated")]
Written = Annotated[Notation, typer.Option("--notation", help="phone notation; model: the model's own symbols")]
Out = Annotated[Path | None, typer.Option(help="output folder: one file per recording and format, same names")]
Streamed = Annotated[bool, typer.Option("--stream", help="with -: 16-bit mono samples, phones while they are spoken")]
SampleRate = Annotated[int, typer.Option(min=4000, max=192000, help="samples per second of --stream")]
Force = Annotated[bool, typer.Option("--force", help="overwrite existing files")]


@commands.command()
def transcribe(
    paths: Annotated[list[str], typer.Argument(help="audio files, folders, file patterns, or - for standard input")],
    model: ModelOption = DEFAULT_MODEL,
    formats: Formats = [Format.text],  # noqa: B006
    notation: Written = Notation.model,
    out: Out = None,
    force: Force = False,
    decoder: Search = Decoder.best_path,
    device: Device = "cpu",
    precision: Arithmetic = Precision.auto,
    stream: Streamed = False,
    sample_rate: SampleRate = 16000,
) -> None:
    """Transcribe recordings to phones with times.

    Example: `asr transcribe hello.wav recordings/ --format textgrid --out praat`

    Reads WAV, FLAC, OGG, MP3 and SPHERE at any sample rate, length and number of channels. `--out` skips files that already
    exist, so the same command resumes an interrupted batch. Recordings that cannot be used are named on standard error; the
    exit status is then 1, or 2 if none could be used.
    """
    if stream:
        others = (
            out,
            notation is not Notation.model,
            len(formats) != 1,
            device != "cpu",
            precision is not Precision.auto,
        )
        if paths != ["-"] or force or any(others):
            raise InputError("--stream with other arguments, expected -, --model, --decoder and one --format")
        chosen = STREAMING_MODEL if model == DEFAULT_MODEL else model
        recognize(read_standard_input(sample_rate), sample_rate, chosen, formats[0].value, decoder)
        return
    from asr.inference.write_transcripts import write_transcripts

    if model == DEFAULT_MODEL:
        print(f"asr: model {DEFAULT_MODEL}, which comes with asr", file=sys.stderr)
    written = None if notation is Notation.model else notation.value
    loading = (device, precision.value, decoder.value)
    names = [each.value for each in formats]
    failed, done = write_transcripts(find_model(model), paths, names, written, out, force, loading)
    if failed:
        raise typer.Exit(1 if done else 2)
