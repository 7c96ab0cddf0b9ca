"""The ``asr`` command: parses, calls one function, prints."""

import json
import os
import sys
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from asr.errors import InputError, TrainingError
from asr.process import tune_process

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
prepare = typer.Typer(no_args_is_help=True, help="Make manifests of a corpus (and the corpus itself, for synth).")
app.add_typer(prepare, name="prepare")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"asr {metadata.version('asr-phones')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and stop")
    ] = False,
) -> None:
    """Phone recognition that anyone can train, trust and run."""


Out = Annotated[Path, typer.Argument(help="folder for cuts_{train,dev,test}.jsonl.gz and stats.json")]
Source = Annotated[Path, typer.Argument(help="folder of the corpus as it was downloaded")]
Jobs = Annotated[int, typer.Option(min=1, help="workers")]
Model = Annotated[Path, typer.Argument(help="model folder, as `asr train` leaves it in RUN_DIR/model")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]


class Format(StrEnum):
    """Output formats of ``asr transcribe``."""

    text = "text"
    json = "json"


class Decoder(StrEnum):
    """How phones come out of log-probabilities."""

    best_path = "best_path"
    beam = "beam"


class Precision(StrEnum):
    """Arithmetic of recognition."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


Arithmetic = Annotated[
    Precision,
    typer.Option(help="bfloat16 and int8 are faster on recent CPUs and a little less exact; int8 on CPU alone"),
]


@prepare.command("synth")
def prepare_synth(
    out: Out,
    speakers: Annotated[int, typer.Option(min=3, help="made speakers, over all splits")] = 60,
    utterances: Annotated[int, typer.Option(min=1, help="utterances of each speaker")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="the same seed gives the same corpus")] = 1,
    jobs: Jobs = 2,
) -> None:
    """Make a corpus in TIMIT's layout with espeak-ng, which every machine can run.

    Example: `asr prepare synth data/synth --speakers 60 --utterances 20`
    """
    from data_prep import synth

    synth.prepare_synth(out, speakers, utterances, seed, jobs)
    _print_statistics(out)


@prepare.command("timit")
def prepare_timit(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Read TIMIT as the LDC distributes it, or a copy in other case, RIFF or with doubled names.

    Example: `asr prepare timit ~/corpora/TIMIT data/timit`
    """
    from data_prep import timit

    timit.prepare_timit(source, out, jobs)
    _print_statistics(out)


@prepare.command("speechocean762")
def prepare_speechocean762(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Read speechocean762 (OpenSLR 101).

    Example: `asr prepare speechocean762 ~/corpora/speechocean762 data/speechocean762`
    """
    from data_prep import speechocean762

    speechocean762.prepare_speechocean762(source, out, jobs)
    _print_statistics(out)


@prepare.command("made")
def prepare_made(
    cuts: Annotated[
        Path, typer.Argument(help="manifest whose words are said, data/speechocean762/cuts_train.jsonl.gz")
    ],
    lexicon: Annotated[Path, typer.Argument(help="a word and its ARPAbet phones on each line")],
    out: Annotated[Path, typer.Argument(help="folder for the audio and cuts_train.jsonl.gz")],
    speakers: Annotated[int, typer.Option(help="made voices, half of them children's")] = 450,
    utterances: Annotated[int, typer.Option(help="utterances of each voice")] = 30,
    seed: Annotated[int, typer.Option(help="the same seed gives the same speech")] = 1,
    jobs: Jobs = 2,
) -> None:
    """Make speech for pretraining with espeak-ng: sentences of a corpus's words, said by adults and children.

    Example: `asr prepare made data/so762/cuts_train.jsonl.gz ~/corpora/speechocean762/resource/lexicon.txt data/so762-made`
    """
    from data_prep import made

    made.prepare_made(cuts, lexicon, out, speakers, utterances, seed, jobs)
    _print_statistics(out)


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
    from asr.compose import run_hydra
    from asr.train import train as train_model

    run_hydra(train_model, [*(overrides or []), *context.args])


@app.command()
def evaluate(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest, for example data/timit/cuts_test.jsonl.gz")],
    json_file: Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")] = None,
    device: Device = "cpu",
    precision: Arithmetic = Precision.float32,
    decoder: Annotated[
        Decoder, typer.Option(help="best_path, or the beam search that `asr tune-decoder` left in the model's folder")
    ] = Decoder.best_path,
) -> None:
    """Phone error rate of a model on a manifest, with its counts, by speaker.

    Example: `asr evaluate runs/first/model data/speechocean762/cuts_test.jsonl.gz --json per.json`
    """
    from asr.evaluate import evaluate as evaluate_model
    from asr.evaluate import report_lines, write_json

    result = evaluate_model(model, cuts, device, precision, decoder)
    if json_file is not None:
        write_json(result, decoder, json_file)
    print("\n".join(report_lines(result)))


@app.command("lm")
def language_model(
    cuts: Annotated[Path, typer.Argument(help="manifest to learn from, for example data/timit/cuts_train.jsonl.gz")],
    arpa: Annotated[Path, typer.Argument(help="ARPA file to write")],
    order: Annotated[int, typer.Option(help="length of the longest n-grams, 1 to 6")] = 4,
    inventory: Annotated[str, typer.Option(help="phones: timit61, timit48, timit39 or arpabet39")] = "arpabet39",
    test: Annotated[Path | None, typer.Option(help="manifest to measure the perplexity on")] = None,
) -> None:
    """Estimate a phone n-gram (interpolated Kneser-Ney) from a manifest's transcripts.

    Example: `asr lm data/speechocean762/cuts_train.jsonl.gz phones.arpa --test data/speechocean762/cuts_dev.jsonl.gz`
    """
    from asr import lm, phones, tune

    known = phones.inventory(inventory)
    model = tune.estimate_ngram(cuts, order, known)
    lm.write_arpa(model, arpa)
    automaton = lm.compile_ngram(model, known)
    print(f"{arpa}: " + ", ".join(f"{len(table)} {size}-grams" for size, table in enumerate(model.tables, 1)))
    for name in [cuts, *([test] if test else [])]:
        print(f"perplexity {automaton.perplexity(tune.transcripts(name, known)):.2f} on {name}")


@app.command("tune-decoder")
def tune_decoder(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest to tune on, for example data/timit/cuts_dev.jsonl.gz")],
    arpa: Annotated[Path, typer.Option("--lm", help="phone n-gram, as `asr lm` writes it")],
    beam: Annotated[int, typer.Option(min=1, help="hypotheses kept in each frame")] = 50,
    device: Device = "cpu",
) -> None:
    """Choose the weight of a phone n-gram and the bonus for a phone on a dev set; leaves the decoder in the model's folder.

    Example: `asr tune-decoder runs/first/model data/speechocean762/cuts_dev.jsonl.gz --lm phones.arpa`
    """
    from asr.evaluate import report_lines
    from asr.tune import tune_decoder as tune

    chosen, result = tune(model, cuts, arpa, beam, device)
    print(f"weight {chosen.weight}, bonus {chosen.bonus}, beam {chosen.beam}: {report_lines(result)[0]}")


@app.command()
def transcribe(
    model: Model,
    paths: Annotated[list[Path], typer.Argument(help="audio files, and folders of them")],
    output_format: Annotated[
        Format, typer.Option("--format", help="text: path, tab, phones; json: an object a line")
    ] = Format.text,
    device: Device = "cpu",
    precision: Arithmetic = Precision.float32,
) -> None:
    """Phones of audio files: WAV, FLAC, OGG, MP3 or SPHERE, any rate, any number of channels.

    Example: `asr transcribe runs/first/model hello.wav recordings/`

    A file that cannot be read is named on standard error, the others are transcribed, and the exit status is 2.
    """
    from asr.bundle import load_bundle
    from asr.transcribe import audio_files
    from asr.transcribe import transcribe as transcribe_files

    failed = False
    for path, phones in transcribe_files(load_bundle(model, device, precision), audio_files(paths)):
        if isinstance(phones, InputError):
            failed = True
            print(f"asr: {phones}", file=sys.stderr)
        elif output_format is Format.json:
            print(json.dumps({"path": str(path), "phones": phones}), flush=True)
        else:
            print(f"{path}\t{' '.join(phones)}", flush=True)
    if failed:
        raise typer.Exit(2)


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
    except BrokenPipeError:  # the reader of our output (head, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # a disk that is full, say, where nothing closer to it had more to add
        print(f"asr: {error.filename or 'output'}: {error.strerror or error}, expected to be usable", file=sys.stderr)
        sys.exit(2)


def _print_statistics(out: Path) -> None:
    statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    for name, split in statistics["splits"].items():
        print(
            f"{name}: {split['utterances']} utterances, {split['speakers']} speakers, {split['hours']:.2f} h, "
            f"{split['phones']} phones -> {out / f'cuts_{name}.jsonl.gz'}"
        )
