"""``asr prepare``: manifests of corpora, and the made ones themselves."""

import json
from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(no_args_is_help=True, help="Make manifests of a corpus (and the corpus itself, for synth).")

Out = Annotated[Path, typer.Argument(help="folder for cuts_{train,dev,test}.jsonl.gz and stats.json")]
Source = Annotated[Path, typer.Argument(help="folder of the corpus as it was downloaded")]
Jobs = Annotated[int, typer.Option(min=1, help="workers")]


@commands.command("synth")
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


@commands.command("timit")
def prepare_timit(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Read TIMIT as the LDC distributes it, or a copy in other case, RIFF or with doubled names.

    Example: `asr prepare timit ~/corpora/TIMIT data/timit`
    """
    from data_prep import timit

    timit.prepare_timit(source, out, jobs)
    _print_statistics(out)


@commands.command("speechocean762")
def prepare_speechocean762(source: Source, out: Out, jobs: Jobs = 2) -> None:
    """Read speechocean762 (OpenSLR 101).

    Example: `asr prepare speechocean762 ~/corpora/speechocean762 data/speechocean762`
    """
    from data_prep import speechocean762

    speechocean762.prepare_speechocean762(source, out, jobs)
    _print_statistics(out)


@commands.command("made")
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


def _print_statistics(out: Path) -> None:
    statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    for name, split in statistics["splits"].items():
        print(
            f"{name}: {split['utterances']} utterances, {split['speakers']} speakers, {split['hours']:.2f} h, "
            f"{split['phones']} phones -> {out / f'cuts_{name}.jsonl.gz'}"
        )
