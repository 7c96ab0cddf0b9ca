"""``asr transcribe`` and ``asr align``: audio to phones with times."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Arithmetic, Decoder, Device, Precision
from asr.errors import InputError
from asr.inference.catalog import DEFAULT, find_model

commands = typer.Typer()

ModelOption = Annotated[str, typer.Option("--model", help="model folder, or the name of one that `asr models` lists")]


class Format(StrEnum):
    """Output formats."""

    text = "text"
    json = "json"
    ctm = "ctm"
    textgrid = "textgrid"
    phn = "phn"


class Notation(StrEnum):
    """How phones are written."""

    model = "model"
    timit = "timit"
    arpabet = "arpabet"
    ipa = "ipa"


Formats = Annotated[list[Format], typer.Option("--format", help="several for several files each, with --out")]
Written = Annotated[Notation, typer.Option("--notation", help="symbols of the phones; model: as the model has them")]
Out = Annotated[Path | None, typer.Option(help="folder for a file of each format and recording, names kept")]
Force = Annotated[bool, typer.Option("--force", help="write files anew that are there already")]


@commands.command()
def transcribe(
    paths: Annotated[list[str], typer.Argument(help="audio files, folders of them, patterns, - for standard input")],
    model: ModelOption = DEFAULT,
    formats: Formats = [Format.text],  # noqa: B006
    notation: Written = Notation.model,
    out: Out = None,
    force: Force = False,
    decoder: Annotated[Decoder, typer.Option(help="beam: the search that `asr tune-decoder` left")] = Decoder.best_path,
    device: Device = "cpu",
    precision: Arithmetic = Precision.auto,
) -> None:
    """Phones of recordings with their times: WAV, FLAC, OGG, MP3 or SPHERE, any rate, length and number of channels.

    Example: `asr transcribe hello.wav recordings/ --format textgrid --out praat`

    With --out what is there already is left as it is, so that a batch that was interrupted goes on. A recording that cannot
    be used is named on standard error, the others are done, and the exit status is 1 (2 where none could be used).
    """
    from asr.inference.write_transcripts import transcribe_to

    if model == DEFAULT:
        print(f"asr: model {DEFAULT}, which comes with asr", file=sys.stderr)
    failed, done = transcribe_to(
        find_model(model),
        paths,
        [one.value for one in formats],
        None if notation is Notation.model else notation.value,
        out,
        force,
        (device, precision.value, decoder.value),
    )
    if failed:
        raise typer.Exit(1 if done else 2)


@commands.command()
def align(
    model: Annotated[str, typer.Argument(help="model folder, or the name of one that `asr models` lists")],
    audio: Annotated[Path, typer.Argument(help="a recording")],
    phones: Annotated[str | None, typer.Option(help='what is said, in the phones of the model: "HH AH L OW"')] = None,
    text: Annotated[str | None, typer.Option(help="or its words, with --lexicon")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="a word and its phones on each line")] = None,
    formats: Annotated[Format, typer.Option("--format")] = Format.ctm,
    notation: Written = Notation.model,
) -> None:
    """Where each phone of a recording lies, given what is said.

    Example: `asr align runs/first/model hello.wav --phones "HH AH L OW" --format textgrid`
    """
    from asr.corpus.lexicon import pronounce
    from asr.inference.recognizer import load
    from asr.inference.transcript_formats import FORMATS

    recognizer = load(find_model(model))
    if (phones is None) == (text is None) or (text is None) != (lexicon is None):
        raise InputError("nothing to align, expected --phones, or --text and --lexicon")
    spoken = phones.split() if phones is not None else []
    if text is not None and lexicon is not None:
        spoken = pronounce(text, lexicon, recognizer.bundle.inventory)
    found = recognizer.align(audio, spoken)
    found = found if notation is Notation.model else found.in_notation(notation.value)
    print(FORMATS[formats.value][1](found, audio), end="")
