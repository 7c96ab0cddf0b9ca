"""`asr transcribe`: the phones of recordings, with their times."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.listen import STREAMING_MODEL, read_standard_input, recognize
from asr.cli.options import Arithmetic, Cluster, Decoder, Device, Precision, Search, SkipBad, Workers, choose_run
from asr.errors import InputError
from asr.inference.catalog import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from asr.inference.units import Run

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
Out = Annotated[
    Path | None,
    typer.Option(
        help="output folder: a file for each recording and format; of manifests and shards, for each shard or run"
    ),
]
Streamed = Annotated[
    bool,
    typer.Option(
        "--stream", help="with -: 16-bit mono samples, phones while they are spoken; default model: streaming"
    ),
]
SampleRate = Annotated[int, typer.Option(min=4000, max=192000, help="samples per second of --stream")]
Force = Annotated[bool, typer.Option("--force", help="overwrite existing files")]

OF_A_STREAM = "-, --model, --decoder, --sample-rate and one --format"
"""What the command takes with --stream."""


@commands.command()
def transcribe(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(help="audio files, folders, file patterns, or - for standard input; or manifests and shards"),
    ],
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
    cluster: Cluster = "",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Transcribe recordings to phones with times.

    Example: `asr transcribe hello.wav recordings/ --format textgrid --out praat`

    Reads WAV, FLAC, OGG, MP3 and SPHERE at any sample rate, length and number of channels; with `--out` also manifests and
    shards. `--out` skips what already exists, so the same command resumes an interrupted batch. Recordings that cannot be
    used are named on standard error, and in OUT/errors.tsv; the exit status is then 1, or 2 if none could be used.
    """
    if stream:
        others = out or force or cluster or workers or skip_bad or len(formats) > 1
        if paths != ["-"] or others or (notation, device, precision) != (Notation.model, "cpu", Precision.auto):
            raise InputError(f"--stream with other arguments, expected {OF_A_STREAM}")
        chosen = model if _is_given(context, "model") else STREAMING_MODEL
        recognize(read_standard_input(sample_rate), sample_rate, chosen, formats[0].value, decoder)
        return
    _check_rate(context, sample_rate)
    if cluster and (out is None or "-" in paths):
        raise InputError("--cluster without --out, or with -, expected recordings and a folder that all machines see")
    if model == DEFAULT_MODEL:
        print(f"asr: model {DEFAULT_MODEL}, which comes with asr", file=sys.stderr)
    loading, written = (device, precision.value, decoder.value), None if notation is Notation.model else notation.value
    with choose_run(cluster, workers, device) as run:
        failed, done = _transcribe(find_model(model), paths, formats, written, out, loading, run, skip_bad, force)
    if failed:
        raise typer.Exit(1 if done else 2)


def _is_given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, rather than its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check_rate(context: typer.Context, sample_rate: int) -> None:
    """Refuse a sample rate without a stream, which would do nothing: files have their own."""
    if _is_given(context, "sample_rate"):
        raise InputError(f"--sample-rate {sample_rate} without --stream, expected both")


def _transcribe(
    model: Path,
    paths: list[str],
    formats: list[Format],
    notation: str | None,
    out: Path | None,
    loading: tuple[str, str, str],
    run: "Run",
    skip_bad: bool,
    force: bool,
) -> tuple[int, int]:
    """Transcribe manifests and shards, or recordings. Returns the number of problems and that of what is done."""
    from asr.inference.sources import open_sources

    sources, names = open_sources(paths), tuple(each.value for each in formats)
    if not sources:
        from asr.inference.write_transcripts import write_transcripts

        return write_transcripts(model, paths, names, notation, out, force, loading, run)
    from asr.inference.transcribe_corpus import CorpusRequest, transcribe_corpus

    if out is None:
        raise InputError(f"{sources[0].location}: without --out, expected a folder for the transcripts")
    request = CorpusRequest(model.absolute(), loading, names, notation, out.absolute())
    failed, done = transcribe_corpus(sources, request, run, skip_bad, force)
    print(f"{done} utterances -> {out}")
    if failed:
        print(f"left out: {failed} -> {out / 'errors.tsv'}")
    return failed, done
