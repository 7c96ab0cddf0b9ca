"""`asr prepare`: write the manifests of a corpus, or synthesize a corpus."""

import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from asr.cli import layouts
from asr.cli.layouts import Jobs, Out, Source, print_statistics
from asr.cli.options import Cluster, Workers, check_workers, choose_run, finite
from asr.errors import InputError

if TYPE_CHECKING:
    from data_prep.spreading import Spread

T = TypeVar("T")
R = TypeVar("R")

commands = typer.Typer(
    no_args_is_help=True,
    help="Prepare a corpus: write its manifests (any layout: auto), or synthesize it (synth, made, voices).",
)

commands.add_typer(layouts.commands)


@commands.command("synth")
def prepare_synth(
    out: Out,
    speakers: Annotated[int, typer.Option(min=3, help="synthetic speakers, over all splits")] = 60,
    utterances: Annotated[int, typer.Option(min=1, help="utterances per speaker")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="random seed; equal seeds give equal corpora")] = 1,
    jobs: Jobs = 2,
    language: Annotated[
        str, typer.Option(help="a language of espeak-ng, such as de or cmn: phones in IPA; default: TIMIT's English")
    ] = "",
    text: Annotated[
        Path | None, typer.Option(help="with --language: sentences, one on each line; default: random words")
    ] = None,
    tones: Annotated[bool, typer.Option(help="with --language: write tones on their vowels")] = True,
    cluster: Cluster = "",
    workers: Workers = 0,
) -> None:
    """Synthesize a corpus with espeak-ng: English in TIMIT's layout, or any of its languages in IPA.

    Example: `asr prepare synth data/synth --speakers 60 --utterances 20`
    """
    from data_prep import synth, synth_languages

    if not language and (text is not None or not tones):
        raise InputError("--text or --no-tones without --language, expected a language such as de")
    with choose_spread(cluster, workers, jobs) as spread:
        if language:
            synth_languages.prepare_language(out, language, speakers, utterances, seed, spread, text, tones=tones)
        else:
            synth.prepare_synth(out, speakers, utterances, seed, spread)
    print_statistics(out)


@commands.command("timit")
def prepare_timit(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Prepare TIMIT.

    Example: `asr prepare timit ~/corpora/TIMIT data/timit`

    Reads the LDC distribution, and copies in another case, in RIFF, or with doubled file names.
    """
    from data_prep import timit

    timit.prepare_timit(source, out, jobs)
    print_statistics(out)


@commands.command("speechocean762")
def prepare_speechocean762(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Prepare speechocean762 (OpenSLR 101).

    Example: `asr prepare speechocean762 ~/corpora/speechocean762 data/speechocean762`
    """
    from data_prep import speechocean762

    speechocean762.prepare_speechocean762(source, out, jobs)
    print_statistics(out)


@commands.command("made")
def prepare_made(
    cuts: Annotated[
        Path, typer.Argument(help="manifest whose words are used, for example data/speechocean762/cuts_train.jsonl.gz")
    ],
    lexicon: Annotated[Path, typer.Argument(help="pronunciation lexicon: a word and its ARPAbet phones per line")],
    out: Annotated[Path, typer.Argument(help="output folder for the audio and cuts_train.jsonl.gz")],
    speakers: Annotated[int, typer.Option(help="synthetic speakers, half of them children")] = 450,
    utterances: Annotated[int, typer.Option(help="utterances per speaker")] = 30,
    seed: Annotated[int, typer.Option(help="random seed; equal seeds give equal speech")] = 1,
    jobs: Jobs = 2,
    cluster: Cluster = "",
    workers: Workers = 0,
) -> None:
    """Synthesize speech for pretraining with espeak-ng.

    Example: `asr prepare made data/so762/cuts_train.jsonl.gz ~/corpora/speechocean762/resource/lexicon.txt data/so762-made`

    The sentences use the words of a corpus. Adult and child voices speak them.
    """
    from data_prep import made

    with choose_spread(cluster, workers, jobs) as spread:
        made.prepare_made(cuts, lexicon, out, speakers, utterances, seed, spread)
    print_statistics(out)


@commands.command("voices")
def prepare_voices(
    out: Annotated[Path, typer.Argument(help="output folder for the audio, cuts_{train,test}.jsonl.gz and stats.json")],
    hours: Annotated[
        float, typer.Option(callback=finite, help="hours of speech, a twentieth of it for the test")
    ] = 10.0,
    seed: Annotated[int, typer.Option(help="random seed; equal seeds give equal speech")] = 1,
    jobs: Jobs = 2,
    engines: Annotated[
        str,
        typer.Option(
            help="synthesizers, separated by commas: rhvoice, flite, festival, pico, espeak, kokoro, piper; "
            "by default those that are installed, without piper"
        ),
    ] = "",
    held_out: Annotated[
        str, typer.Option(help="person whose voices are in the test alone, for example slt; by default clb or rms")
    ] = "",
    sentences: Annotated[
        Path | None, typer.Option(help="text file, one sentence on each line; by default the examples of WordNet")
    ] = None,
    cluster: Cluster = "",
    workers: Workers = 0,
) -> None:
    """Synthesize speech of recorded voices: open vocabulary, CMUdict's phones, good and bad recordings.

    Example: `asr prepare voices data/voices --hours 10 --engines flite,festival`
    """
    from data_prep import voices
    from data_prep.voices_texts import WORDNET

    names = tuple(name.strip() for name in engines.split(",") if name.strip())
    request = voices.VoicesRequest(hours, seed, names, held_out, sentences or WORDNET)
    with choose_spread(cluster, workers, jobs) as spread:
        voices.prepare_voices(out, request, spread)
    print_statistics(out)
    statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    reasons = [f"left out: {number} {reason}" for reason, number in statistics["left_out"].items()]
    print(*reasons, *(note for note in statistics["notes"] if note.startswith("left out")), sep="\n")


@commands.command("texts")
def prepare_texts(
    out: Annotated[
        Path, typer.Argument(help="text file to write, with a number and the phones of a sentence on each line")
    ],
    sentences: Annotated[
        Path | None, typer.Option(help="text file, one sentence on each line; by default the examples of WordNet")
    ] = None,
) -> None:
    """Write the phones of sentences by CMUdict, for `asr lm`.

    Example: `asr prepare texts wordnet.txt`, then `asr lm wordnet.txt wordnet.arpa --order 5`

    Left out are sentences that occur before, have other characters than letters and punctuation (such as digits), words
    that CMUdict lacks, or more than 14 words.
    """
    from data_prep.voices_texts import WORDNET, write_phones

    written, found = write_phones(sentences or WORDNET, out)
    print(f"{out}: {written} sentences; left out {found - written} of {found}")


@contextmanager
def choose_spread(cluster: str, workers: int, jobs: int) -> "Iterator[Spread]":
    """What synthesizes: processes of this machine, or a cluster, to which this connects when there are tasks for it.

    Raises:
        InputError: the cluster does not answer, or there are workers without one.
    """
    from asr.inference.units import in_order, returning
    from data_prep.spreading import in_processes, record_elsewhere

    check_workers(cluster, workers)
    if not cluster:
        yield in_processes(jobs)
        return
    with ExitStack() as stack:
        connect = cache(lambda: stack.enter_context(choose_run(cluster, workers)))

        def spread(function: Callable[[T], R], tasks: Iterable[T]) -> Generator[tuple[T, R]]:
            record = partial(returning, partial(record_elsewhere, function))
            return in_order(connect()(record, tasks, length_hint(tasks, sys.maxsize)))

        yield spread
