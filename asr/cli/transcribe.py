"""`asr transcribe` and `asr align`: phones with their times."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Arithmetic, Decoder, Device, Precision
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


Formats = Annotated[list[Format], typer.Option("--format", help="output format; with --out it may be repeated")]
Written = Annotated[Notation, typer.Option("--notation", help="phone notation; model: the model's own symbols")]
Out = Annotated[Path | None, typer.Option(help="output folder: one file per recording and format, same names")]
Force = Annotated[bool, typer.Option("--force", help="overwrite existing files")]


@commands.command()
def transcribe(
    paths: Annotated[list[str], typer.Argument(help="audio files, folders, file patterns, or - for standard input")],
    model: ModelOption = DEFAULT_MODEL,
    formats: Formats = [Format.text],  # noqa: B006
    notation: Written = Notation.model,
    out: Out = None,
    force: Force = False,
    decoder: Annotated[
        Decoder, typer.Option(help="beam: the search that `asr tune-decoder` has tuned")
    ] = Decoder.best_path,
    device: Device = "cpu",
    precision: Arithmetic = Precision.auto,
) -> None:
    """Transcribe recordings to phones with times.

    Example: `asr transcribe hello.wav recordings/ --format textgrid --out praat`

    Reads WAV, FLAC, OGG, MP3 and SPHERE at any sample rate, length and number of channels. `--out` skips files that already
    exist, so the same command resumes an interrupted batch. Recordings that cannot be used are named on standard error; the
    exit status is then 1, or 2 if none could be used.
    """
    from asr.inference.write_transcripts import write_transcripts

    if model == DEFAULT_MODEL:
        print(f"asr: model {DEFAULT_MODEL}, which comes with asr", file=sys.stderr)
    failed, done = write_transcripts(
        find_model(model),
        paths,
        [each.value for each in formats],
        None if notation is Notation.model else notation.value,
        out,
        force,
        (device, precision.value, decoder.value),
    )
    if failed:
        raise typer.Exit(1 if done else 2)


@commands.command()
def align(
    model: Annotated[str, typer.Argument(help="model folder, or a name from `asr models`")],
    audio: Annotated[Path, typer.Argument(help="audio file")],
    phones: Annotated[str | None, typer.Option(help='reference phones in the model\'s inventory: "HH AH L OW"')] = None,
    text: Annotated[str | None, typer.Option(help="reference words, with --lexicon")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="pronunciation lexicon: a word and its phones per line")] = None,
    formats: Annotated[Format, typer.Option("--format", help="output format")] = Format.ctm,
    notation: Written = Notation.model,
) -> None:
    """Align a recording with its reference phones or words.

    Example: `asr align runs/first/model hello.wav --phones "HH AH L OW" --format textgrid`
    """
    from asr.corpus.lexicon import pronounce
    from asr.inference.recognizer import load
    from asr.inference.transcript_formats import FORMATS

    recognizer = load(find_model(model))
    if (phones is None) == (text is None) or (text is None) != (lexicon is None):
        raise InputError("nothing to align, expected --phones, or --text and --lexicon")
    reference = phones.split() if phones is not None else []
    if text is not None and lexicon is not None:
        reference = pronounce(text, lexicon, recognizer.bundle.inventory)
    aligned = recognizer.align(audio, reference)
    transcript = aligned if notation is Notation.model else aligned.in_notation(notation.value)
    print(FORMATS[formats.value][1](transcript, audio), end="")
