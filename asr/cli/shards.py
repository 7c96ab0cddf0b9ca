"""`asr shard`: a corpus in a few large files, in a local folder or an object store."""

from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from asr.cli.options import finite
from asr.errors import InputError
from asr.inference.catalog import find_model

if TYPE_CHECKING:
    from asr.config import FeatureConfig
    from asr.corpus.shard_encoding import StoredFeatures

commands = typer.Typer()


class Content(StrEnum):
    """What shards hold of each utterance."""

    flac = "flac"
    opus = "opus"
    features = "features"


@commands.command(
    epilog="Overrides set the features to store: `--format features features=mfcc features.bins=23`. For S3, the addresses "
    "and keys come from the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."
)
def shard(
    cuts: Annotated[str, typer.Argument(help="manifest or shards: a path, or a URL such as s3://bucket/train")],
    out: Annotated[str, typer.Argument(help="folder to write: a path, or a URL such as s3://bucket/train")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides for --format features")] = None,
    content: Annotated[
        Content,
        typer.Option(
            "--format",
            help="flac: the samples as they are; opus: a quarter of the size, with losses; features: computed once, but "
            "then without augment.speeds (speed perturbation needs samples) and for models with these features alone",
        ),
    ] = Content.flac,
    shard_utterances: Annotated[int, typer.Option(min=1, help="utterances in a shard")] = 500,
    model: Annotated[
        Path | None, typer.Option(parser=find_model, help="model whose features --format features stores")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="worker processes")] = 2,
    skip_bad: Annotated[
        bool, typer.Option(help="leave out utterances whose audio cannot be used, and name them")
    ] = False,
    retry_seconds: Annotated[
        float, typer.Option(min=0, callback=finite, help="how long to ask a store again that does not answer")
    ] = 60.0,
) -> None:
    """Write a corpus as shards: few large files, which a disk, a network or an object store reads fast.

    Example: `asr shard data/so762/cuts_train.jsonl.gz shards/train`

    The same command goes on where it was interrupted. Lhotse opens the result with CutSet.from_shar(in_dir=OUT).
    """
    from asr.corpus.shard_writer import ShardOptions, write_shards

    if content is not Content.features and (overrides or model):
        raise InputError(f"format: {content.value}, expected features with settings of features or a model")
    stored = _stored_features(model, overrides or []) if content is Content.features else None
    options = ShardOptions(content.value, shard_utterances, skip_bad, stored, retry_seconds)
    shards = write_shards(cuts, out, options, jobs)
    hours, size = shards.duration_s / 3600, shards.size_bytes / 1e6
    print(f"{shards.location}: {len(shards)} shards, {shards.utterances} utterances, {hours:.2f} h, {size:,.1f} MB")
    for key, meaning in (("left_out", "left out"), ("without_phones", "without phones, for transcription alone")):
        if count := shards.head.get(key):
            print(f"{count} utterances {meaning}")


def _stored_features(model: Path | None, overrides: list[str]) -> "StoredFeatures":
    """The features of a model or of settings."""
    from asr.corpus.shard_encoding import StoredFeatures
    from asr.corpus.stored_features import import_lilcom

    import_lilcom()
    if model and overrides:
        raise InputError(f"model: {model} and {overrides[0]}, expected one of them")
    if model:
        from asr.inference.bundle import load_bundle

        features = load_bundle(model).features
    else:
        from asr.cli.compose import compose

        features = compose(["run_dir=unused", *overrides]).features
    if features.name in ("pretrained", "waveform"):
        raise InputError(f"features: {features.name}, expected features that are not samples: they are not stored")
    return StoredFeatures(asdict(features), features.sample_rate_hz, partial(_extract, config=features))


def _extract(samples: np.ndarray, config: "FeatureConfig") -> np.ndarray:
    import torch

    from asr.features.filterbanks import extract

    torch.set_num_threads(1)  # the parallel processes are enough
    return extract(samples, config).numpy()
