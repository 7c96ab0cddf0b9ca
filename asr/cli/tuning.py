"""Commands that fit what comes after the network to text and to dev sets: `asr lm`, `tune-decoder`, `calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Device, Model, finite
from asr.errors import InputError

commands = typer.Typer()


@commands.command("lm")
def language_model(
    texts: Annotated[
        list[Path], typer.Argument(help="manifests to train on, or text files with an id and its phones on each line")
    ],
    arpa: Annotated[Path, typer.Argument(help="ARPA file to write")],
    order: Annotated[int, typer.Option(help="order of the n-gram, 1 to 6")] = 4,
    inventory: Annotated[
        str, typer.Option(help="phone inventory: timit61, timit48, timit39, arpabet39, or the path of a table")
    ] = "arpabet39",
    other: Annotated[
        Path | None, typer.Option("--mix", help="phone n-gram of other texts (ARPA) to mix in, weighted to fit --dev")
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="with --mix: texts that the weights must fit")] = None,
    pruning: Annotated[
        float,
        typer.Option("--prune", min=0, callback=finite, help="leave out n-grams worth a smaller share of perplexity"),
    ] = 0.0,
    test: Annotated[Path | None, typer.Option(help="texts to measure the perplexity of phones on")] = None,
    words: Annotated[bool, typer.Option("--words", help="estimate a word n-gram, for `asr evaluate-words`")] = False,
) -> None:
    """Estimate a phone n-gram from the transcripts of manifests.

    Example: `asr lm data/speechocean762/cuts_train.jsonl.gz phones.arpa --test data/speechocean762/cuts_dev.jsonl.gz`

    Smoothing is interpolated Kneser-Ney. `--mix` adds what a larger n-gram knows, such as one from `asr prepare texts`.
    """
    from asr.decoding import ngram

    if arpa.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{arpa}: named like a manifest, expected the ARPA file to write")
    if words:
        from asr.decoding.words import estimate_word_ngram

        if test or other or dev or pruning or len(texts) > 1:
            raise InputError("--words with --test, --mix, --dev, --prune or two manifests, expected one manifest alone")
        ngram.write_arpa(estimate_word_ngram(texts[0], order), arpa)
        print(arpa)
        return
    if (other is None) != (dev is None):
        raise InputError("one of --mix and --dev, expected both: the weights of the two n-grams are chosen on --dev")
    _estimate_phone_ngram(texts, arpa, order, inventory, other, dev, pruning, test)


def _estimate_phone_ngram(
    texts: list[Path],
    arpa: Path,
    order: int,
    inventory: str,
    other: Path | None,
    dev: Path | None,
    pruning: float,
    test: Path | None,
) -> None:
    """Estimate, mix and prune a phone n-gram, write it, and print its size and perplexities."""
    from asr.corpus import phones
    from asr.decoding import ngram, ngram_mixture
    from asr.inference import tune_decoder as tune

    known = phones.inventory(inventory)
    model = tune.estimate_ngram(texts, order, known)
    if other is not None and dev is not None:
        model, weight = tune.mix_ngram(model, other, dev, known)
        print(f"weights: {weight:.3f}, and {1 - weight:.3f} for {other}")
    if pruning:
        model = ngram_mixture.prune(model, pruning)
    ngram.write_arpa(model, arpa)
    automaton = ngram.compile_ngram(model, known)
    print(f"{arpa}: " + ", ".join(f"{len(table)} {size}-grams" for size, table in enumerate(model.tables, 1)))
    for name in dict.fromkeys(path for path in (*texts, dev, test) if path):
        print(f"perplexity {automaton.perplexity(tune.reference_tokens(name, known)):.2f} on {name}")


@commands.command("tune-decoder")
def tune_decoder(
    model: Model,
    cuts: Annotated[Path, typer.Argument(help="manifest to tune on, for example data/timit/cuts_dev.jsonl.gz")],
    arpa: Annotated[Path, typer.Option("--lm", help="phone n-gram from `asr lm`")],
    beam: Annotated[int, typer.Option(min=1, help="hypotheses kept per frame")] = 50,
    device: Device = "cpu",
) -> None:
    """Tune the beam search of a model on a dev set.

    Example: `asr tune-decoder runs/first/model data/speechocean762/cuts_dev.jsonl.gz --lm phones.arpa`

    Chooses the n-gram weight and the phone insertion bonus, and stores the decoder in the model folder.
    """
    from asr.inference.tune_decoder import tune_decoder as tune
    from asr.scoring.results import headline

    chosen, result = tune(model, cuts, arpa, beam, device)
    print(f"weight {chosen.weight}, bonus {chosen.bonus}, beam {chosen.beam}: {headline(result)}")


@commands.command("calibrate")
def calibrate_confidences(
    model: Model,
    cuts: Annotated[list[Path], typer.Argument(help="manifests: a dev set, then others of other speech")],
    device: Device = "cpu",
) -> None:
    """Calibrate the confidences of a model on dev sets.

    Example: `asr calibrate runs/first/model data/speechocean762/cuts_dev.jsonl.gz data/telephone/cuts_dev.jsonl.gz`

    `asr train` and `asr tune-decoder` do this on their dev set alone. Here each manifest has the same weight, so that
    confidences are right on each kind of speech. What counts as unusual speech is judged by the first one.
    """
    from asr.inference.calibrate import calibrate_model

    calibration, errors = calibrate_model(model, cuts, device)
    print(f"temperature {calibration.temperature:.3f}")
    for path, error in zip(cuts, errors, strict=True):
        found = "no phones recognized" if error is None else f"expected calibration error {100 * error:.1f} points"
        print(f"{found} on {path}")
