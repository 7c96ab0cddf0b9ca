"""Commands that evaluate and report: `asr evaluate`, `score`, `compare`, `report`, `evaluate-words`, `explain`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Arithmetic, Cluster, Decoder, Device, Model, Precision, SkipBad, Workers, choose_run, finite
from asr.errors import InputError
from asr.system.files import check_writable

if TYPE_CHECKING:
    from asr.scoring.results import Evaluation

commands = typer.Typer()

Figures = Annotated[Path | None, typer.Option("--json", help="also write the scores to this JSON file")]
Hypotheses = Annotated[
    Path | None, typer.Option(help="also write hypotheses to this folder; the same command resumes from there")
]
Decoding = Annotated[
    Decoder, typer.Option(help="best_path, or the beam search that `asr tune-decoder` has tuned for this model")
]


class Folding(StrEnum):
    """Phone sets that are folded for scoring."""

    timit = "timit"


@commands.command()
def evaluate(
    model: Model,
    cuts: Annotated[str, typer.Argument(help="manifest, for example data/timit/cuts_test.jsonl.gz, or shards")],
    json_file: Figures = None,
    report: Annotated[Path | None, typer.Option(help="also write an error report into this folder")] = None,
    device: Device = "cpu",
    precision: Arithmetic = Precision.auto,
    decoder: Decoding = Decoder.best_path,
    out: Hypotheses = None,
    force: Annotated[bool, typer.Option("--force", help="replace the hypotheses in --out")] = False,
    cluster: Cluster = "",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Evaluate a model on a manifest or on shards.

    Example: `asr evaluate runs/first/model data/speechocean762/cuts_test.jsonl.gz --json per.json --report report`

    Prints PER with counts and 95 % interval, under every scoring convention and by speaker. Audio that cannot be used ends
    the command; with --skip-bad the exit status is then 1, or 2 if none can be used.
    """
    if json_file is not None and not {report, out}.intersection(json_file.parents):  # those may be made first
        check_writable(json_file)
    if report is not None:
        if out is not None or force or cluster or workers or skip_bad:
            raise InputError("--report with --out, --force, --cluster, --workers or --skip-bad, expected it alone")
        from asr.reports.model_report import evaluate_and_report

        result = evaluate_and_report(model, Path(cuts), report, device, precision, decoder)
    else:
        from asr.inference.evaluate_corpus import EvaluationRequest, evaluate_corpus

        if cluster not in ("", "local") and out is None:
            raise InputError(f"--cluster {cluster} without --out, expected a folder that all machines see")
        request = EvaluationRequest(model.absolute(), cuts, device, precision, decoder)
        with choose_run(cluster, workers, device) as run:
            result = evaluate_corpus(request, out, run, skip_bad, force)
    _print_and_write(result, json_file)
    if result.precision is not None:
        print(f"asr: computed in {result.precision}", file=sys.stderr)
    if report is not None:
        print(f"report: {report / 'index.html'}")
    if result.left_out:
        raise typer.Exit(1)


@commands.command()
def score(
    reference: Annotated[
        Path, typer.Argument(help="reference transcripts: NIST trn, or an id and its phones per line")
    ],
    hypothesis: Annotated[Path, typer.Argument(help="hypotheses of any system, in either format")],
    folding: Annotated[
        Folding | None, typer.Option(help="timit: fold TIMIT phones, score under all its conventions, headline kaldi")
    ] = None,
    convention: Annotated[str | None, typer.Option(help="headline convention: plain, kaldi, optional-sil, ...")] = None,
    speakers: Annotated[
        Path | None,
        typer.Option(
            help="file with an id and its speaker per line; default: the part of the id before its first - or _"
        ),
    ] = None,
    json_file: Figures = None,
) -> None:
    """Score the transcripts of any system as `asr evaluate` does.

    Example: `asr score reference.trn hypothesis.trn --folding timit`
    """
    from asr.scoring.transcripts import evaluate_transcripts

    _print_and_write(evaluate_transcripts(reference, hypothesis, folding is not None, convention, speakers), json_file)


@commands.command()
def compare(
    first: Annotated[Path, typer.Argument(help="JSON file of `asr evaluate --json`, or a model folder or name")],
    second: Annotated[Path, typer.Argument(help="the same for the other system")],
    cuts: Annotated[Path | None, typer.Argument(help="manifest to evaluate on, required for models")] = None,
    convention: Annotated[
        str | None, typer.Option(help="scoring convention; default: the headline of the first system")
    ] = None,
    shown: Annotated[int, typer.Option(min=0, help="number of utterances to list, largest change first")] = 10,
    decoder: Decoding = Decoder.best_path,
) -> None:
    """Compare two systems.

    Example: `asr compare old.json new.json`

    Prints the difference in PER, its 95 % interval, NIST's matched-pairs test, and the utterances that changed most.
    """
    from asr.inference.evaluate_corpus import read_or_evaluate
    from asr.scoring.comparison import compare as compare_scores
    from asr.scoring.comparison import comparison_lines

    if cuts is not None and first.is_file() and second.is_file():
        raise InputError(f"{cuts}: not needed for two JSON files, expected a model beside it")
    baseline, system = (read_or_evaluate(path, cuts, decoder) for path in (first, second))
    name = convention or baseline.headline.convention
    result = compare_scores(baseline.under(name), system.under(name))
    print("\n".join(comparison_lines(result, str(first), str(second), shown)))


@commands.command("report")
def report_runs(
    runs: Annotated[list[Path], typer.Argument(help="run folders, in the order of the report")],
    out: Annotated[Path, typer.Option(help="output folder of the report")] = Path("report"),
) -> None:
    """Compare training runs in a report.

    Example: `asr report runs/first runs/second --out comparison`

    The report has results, settings that differ, learning curves, and PER with intervals. Results come from the files that
    `asr evaluate --json` wrote into the run folders.
    """
    from asr.reports.run_comparison import report_runs as write_report

    print(f"report: {write_report(runs, out)}")


@commands.command("evaluate-words")
def evaluate_words(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest with words, for example data/timit/cuts_test.jsonl.gz")],
    lexicon: Annotated[Path, typer.Option(help="pronunciation lexicon: a word and its phones per line")],
    arpa: Annotated[
        Path, typer.Option("--lm", help="word n-gram in ARPA format, from `asr lm --words` or any other tool")
    ],
    weight: Annotated[float, typer.Option(min=0.0, callback=finite, help="weight of the n-gram")] = 1.0,
    bonus: Annotated[float, typer.Option(callback=finite, help="word insertion bonus")] = 0.0,
    json_file: Figures = None,
) -> None:
    """Measure the word error rate of a model with a lexicon and a word n-gram.

    Example: `asr evaluate-words runs/first/model data/so762/cuts_test.jsonl.gz --lexicon lexicon.txt --lm words.arpa`

    Needs flashlight-text: `pip install 'asr-phones[words]'`.
    """
    from asr.inference.evaluate_words import evaluate_words as measure_word_errors
    from asr.inference.evaluate_words import word_error_lines, write_word_errors

    check_writable(json_file)
    result = measure_word_errors(model, cuts, lexicon, arpa, weight, bonus)
    if json_file is not None:
        write_word_errors(result, json_file)
    print("\n".join(word_error_lines(result)))


def _print_and_write(result: "Evaluation", json_file: Path | None) -> None:
    from asr.scoring.results import report_lines, write_json

    if json_file is not None:
        write_json(result, json_file)
    print("\n".join(report_lines(result)))


@commands.command()
def explain(
    model: Model,
    audio: Annotated[Path, typer.Argument(help="audio file of at most 30 s")],
    out: Annotated[Path, typer.Option(help="output folder of the report")] = Path("explained"),
) -> None:
    """Write a report that looks inside an LSTM model on one recording.

    Example: `asr explain english hello.wav --out explained`

    Shows features, posteriors, the outputs of a pretrained encoder, the gates and cells of every layer, and the effective
    context.
    """
    from asr.reports.explain import explain as write_report

    print(write_report(model, audio, out))
