"""Commands that give figures: ``asr evaluate``, ``score``, ``compare``, and what a decoder is tuned with."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Arithmetic, Decoder, Device, Model, Precision

if TYPE_CHECKING:
    from asr.scoring.results import Evaluation

commands = typer.Typer()

Figures = Annotated[Path | None, typer.Option("--json", help="also write the figures to this file")]
Decoding = Annotated[
    Decoder, typer.Option(help="best_path, or the beam search that `asr tune-decoder` left in the model's folder")
]


class Folding(StrEnum):
    """Whose phones transcripts have."""

    timit = "timit"


@commands.command()
def evaluate(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest, for example data/timit/cuts_test.jsonl.gz")],
    json_file: Figures = None,
    report: Annotated[Path | None, typer.Option(help="also write a page about the errors into this folder")] = None,
    device: Device = "cpu",
    precision: Arithmetic = Precision.auto,
    decoder: Decoding = Decoder.best_path,
) -> None:
    """Phone error rate of a model on a manifest under all conventions, with counts and 95 % interval, by speaker.

    Example: `asr evaluate runs/first/model data/speechocean762/cuts_test.jsonl.gz --json per.json --report pages`
    """
    from asr.inference.evaluate import evaluate as evaluate_model

    if report is None:
        result = evaluate_model(model, cuts, device, precision, decoder)
    else:
        from asr.reports.model_report import report as evaluate_and_report

        result = evaluate_and_report(model, cuts, report, device, precision, decoder)
    _print_and_write(result, json_file)
    print(f"asr: computed in {result.precision}", file=sys.stderr)
    if report is not None:
        print(f"report: {report / 'index.html'}")


@commands.command()
def score(
    reference: Annotated[Path, typer.Argument(help="what was said: NIST trn, or an id and phones on each line")],
    hypothesis: Annotated[Path, typer.Argument(help="what any system recognized, in either form")],
    folding: Annotated[
        Folding | None, typer.Option(help="timit: all of TIMIT's conventions, kaldi the headline")
    ] = None,
    convention: Annotated[str | None, typer.Option(help="the headline: plain, kaldi, optional-sil, ...")] = None,
    speakers: Annotated[
        Path | None,
        typer.Option(help="an id and its speaker on each line; else what stands before an id's first - or _"),
    ] = None,
    json_file: Figures = None,
) -> None:
    """Phone error rate of transcripts from any system, as `asr evaluate` gives it.

    Example: `asr score reference.trn hypothesis.trn --folding timit`
    """
    from asr.scoring.transcripts import evaluate_transcripts

    _print_and_write(evaluate_transcripts(reference, hypothesis, folding is not None, convention, speakers), json_file)


@commands.command()
def compare(
    first: Annotated[Path, typer.Argument(help="figures that `asr evaluate --json` wrote, or a model folder")],
    second: Annotated[Path, typer.Argument(help="the same of the other system")],
    cuts: Annotated[Path | None, typer.Argument(help="manifest to evaluate on; needed with model folders")] = None,
    convention: Annotated[str | None, typer.Option(help="instead of the headline of the first system")] = None,
    shown: Annotated[int, typer.Option(min=0, help="utterances to list, those that changed most")] = 10,
    decoder: Decoding = Decoder.best_path,
) -> None:
    """Is one of two systems better? Difference in PER, its 95 % interval, NIST's matched-pairs test, what changed most.

    Example: `asr compare old.json new.json`
    """
    from asr.inference.evaluate import figures_of
    from asr.scoring.comparison import compare as compare_scores
    from asr.scoring.comparison import comparison_lines

    one, two = (figures_of(path, cuts, decoder) for path in (first, second))
    name = convention or one.headline.convention
    result = compare_scores(one.under(name), two.under(name))
    print("\n".join(comparison_lines(result, str(first), str(second), shown)))


@commands.command("report")
def report_runs(
    runs: Annotated[list[Path], typer.Argument(help="run folders, in the order of the ladder")],
    out: Annotated[Path, typer.Option(help="folder for the page and its figures")] = Path("report"),
) -> None:
    """A page that compares trainings: figures, settings that differ, curves, and the ladder as a picture.

    Example: `asr report runs/first runs/second --out pages`

    A run's figures are the files that `asr evaluate --json` has left in its folder.
    """
    from asr.reports.run_comparison import report_runs as write

    print(f"report: {write(runs, out)}")


@commands.command("lm")
def language_model(
    cuts: Annotated[Path, typer.Argument(help="manifest to learn from, for example data/timit/cuts_train.jsonl.gz")],
    arpa: Annotated[Path, typer.Argument(help="ARPA file to write")],
    order: Annotated[int, typer.Option(help="length of the longest n-grams, 1 to 6")] = 4,
    inventory: Annotated[str, typer.Option(help="phones: timit61, timit48, timit39 or arpabet39")] = "arpabet39",
    test: Annotated[Path | None, typer.Option(help="manifest to measure the perplexity on")] = None,
    words: Annotated[bool, typer.Option("--words", help="of words instead, for `asr evaluate-words`")] = False,
) -> None:
    """Estimate a phone n-gram (interpolated Kneser-Ney) from a manifest's transcripts.

    Example: `asr lm data/speechocean762/cuts_train.jsonl.gz phones.arpa --test data/speechocean762/cuts_dev.jsonl.gz`
    """
    from asr.corpus import phones
    from asr.decoding import ngram
    from asr.inference import tune_decoder as tune

    if words:
        from asr.decoding.words import estimate_words

        ngram.write_arpa(estimate_words(cuts, order), arpa)
        print(arpa)
        return
    known = phones.inventory(inventory)
    model = tune.estimate_ngram(cuts, order, known)
    ngram.write_arpa(model, arpa)
    automaton = ngram.compile_ngram(model, known)
    print(f"{arpa}: " + ", ".join(f"{len(table)} {size}-grams" for size, table in enumerate(model.tables, 1)))
    for name in [cuts, *([test] if test else [])]:
        print(f"perplexity {automaton.perplexity(tune.transcripts(name, known)):.2f} on {name}")


@commands.command("tune-decoder")
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
    from asr.inference.tune_decoder import tune_decoder as tune
    from asr.scoring.results import headline

    chosen, result = tune(model, cuts, arpa, beam, device)
    print(f"weight {chosen.weight}, bonus {chosen.bonus}, beam {chosen.beam}: {headline(result)}")


@commands.command("evaluate-words")
def evaluate_words(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest with texts, for example data/timit/cuts_test.jsonl.gz")],
    lexicon: Annotated[Path, typer.Option(help="a word and its phones on each line")],
    arpa: Annotated[Path, typer.Option("--lm", help="word n-gram, as `asr lm --words` or any tool writes it")],
    weight: Annotated[float, typer.Option(min=0.0, help="of the n-gram")] = 1.0,
    bonus: Annotated[float, typer.Option(help="added for every word")] = 0.0,
    json_file: Figures = None,
) -> None:
    """Word error rate with a pronunciation lexicon and a word n-gram (flashlight-text: pip install 'asr-phones[words]').

    Example: `asr evaluate-words runs/first/model data/so762/cuts_test.jsonl.gz --lexicon lexicon.txt --lm words.arpa`
    """
    from asr.inference.evaluate_words import evaluate_words as evaluate_in_words
    from asr.inference.evaluate_words import word_lines, write_words

    result = evaluate_in_words(model, cuts, lexicon, arpa, weight, bonus)
    if json_file is not None:
        write_words(result, json_file)
    print("\n".join(word_lines(result)))


def _print_and_write(result: "Evaluation", json_file: Path | None) -> None:
    from asr.scoring.results import report_lines, write_json

    if json_file is not None:
        write_json(result, json_file)
    print("\n".join(report_lines(result)))


@commands.command()
def explain(
    model: Model,
    audio: Annotated[Path, typer.Argument(help="a recording of at most 30 s")],
    out: Annotated[Path, typer.Option(help="folder for the page")] = Path("explained"),
) -> None:
    """Write a page about what the layers of a model do with one recording: gates, cells, posteriors, how far it listens.

    Example: `asr explain speechocean762-small hello.wav --out explained`
    """
    from asr.reports.explain import explain as write_page

    print(write_page(model, audio, out))
