"""`asr describe`: the statistics of a corpus as a page."""

from pathlib import Path
from typing import Annotated

import typer

from asr.inference.catalog import find_model

commands = typer.Typer()


@commands.command()
def describe(
    cuts: Annotated[
        list[Path], typer.Argument(help="manifests, one for each split, such as data/so762/cuts_*.jsonl.gz")
    ],
    out: Annotated[Path, typer.Option(help="output folder of the report")] = Path("description"),
    model: Annotated[
        Path | None,
        typer.Option(parser=find_model, help="a model that marks transcripts unlike their audio, such as english"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="worker processes")] = 2,
) -> None:
    """Write the statistics of a corpus as a page, with suspicious utterances to listen to.

    Example: `asr describe data/so762/cuts_train.jsonl.gz data/so762/cuts_test.jsonl.gz --out description`

    Shows durations, speakers, phones, words, speaking rates, levels, clipping, noise, bandwidth and silence, split beside
    split. OUT/stats.json has the same figures.
    """
    from asr.reports.corpus_report import describe_corpus

    print(f"report: {describe_corpus(cuts, out, jobs, model)}")
