"""The data of a training run: both datasets, the updates of an epoch, and each process's share of a batch."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.config import FeatureConfig, TrainConfig
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.features.dataset import Batch, Dataset, Item, plan_training
from asr.features.normalization import NEEDS_STATISTICS
from asr.system.progress import progress
from asr.training.objective import views_of
from asr.training.pretrained import FrozenLayers
from asr.training.run import Run

Update = list[list[Item]]
"""The batches of one update: `trainer.accumulation` of them, fewer at the end of an epoch."""

Share = tuple[Batch, float]
"""A process's part of a batch, and the factor on its loss: 0 if it only repeats an utterance to keep in step."""


def load_datasets(
    config: TrainConfig,
    features: FeatureConfig,
    phones: PhoneInventory,
    encode: FrozenLayers | None = None,
    longest_s: float = math.inf,
) -> tuple[Dataset, Dataset]:
    """Training and dev sets, with as many features computed as the cache holds. ``encode`` is as `Dataset` takes it.

    ``longest_s`` is the longest utterance that the model can be trained on.

    Raises:
        InputError: a manifest cannot be used, both sets share a speaker, or an utterance is too long.
    """
    folder, cache = Path(config.corpus.dir), config.trainer.feature_cache_gib
    if config.augment.frequency_warp and features.name != "fbank":
        warp = f"augment.frequency_warp is {config.augment.frequency_warp} with features {config.features.name}"
        raise InputError(f"configuration: {warp}, expected 0 or fbank")
    train_utterances, dev_utterances = (
        read_manifest(folder / name) for name in (config.corpus.train, config.corpus.dev)
    )
    for utterance in train_utterances + dev_utterances:
        if utterance.duration_s > longest_s * min(config.augment.speeds):
            limit = f"expected at most {longest_s * min(config.augment.speeds):g} s, what the encoder sees at once"
            raise InputError(f"{folder}: utterance {utterance.id} lasts {utterance.duration_s:.2f} s, {limit}")
    shared = {u.speaker for u in train_utterances} & {u.speaker for u in dev_utterances}
    if shared:
        raise InputError(f"{folder}: speaker {min(shared)} is in train and dev, expected disjoint speakers")
    train_set = Dataset(train_utterances, features, phones, cache, encode=encode)
    dev_set = Dataset(dev_utterances, features, phones, cache, encode=encode)
    for name, dataset, speeds in (("train", train_set, config.augment.speeds), ("dev", dev_set, [1.0])):
        for _ in progress(dataset.fill_cache(speeds), f"features of {name}", len(dataset) * len(speeds)):
            pass
    train_set.learn_statistics()
    if features.normalization in NEEDS_STATISTICS:
        dev_set.statistics = train_set.statistics
    else:
        dev_set.learn_statistics()
    return train_set, dev_set


def plan_epoch(run: Run, epoch: int) -> list[Update]:
    """The updates of an epoch. They follow from (seed, epoch) alone, so that a resumed run has the same ones."""
    trainer, durations_s = run.config.trainer, [utterance.duration_s for utterance in run.train_set.utterances]
    seed = (run.config.seed, epoch)
    plan = plan_training(durations_s, run.config.augment.speeds, trainer.batch_seconds, trainer.batch_utterances, seed)
    return [plan[start : start + trainer.accumulation] for start in range(0, len(plan), trainer.accumulation)]


def shares(run: Run, updates: Sequence[Update], epoch: int) -> Iterator[tuple[Update, list[Share]]]:
    """Each update of an epoch with this process's share of its batches: every n-th utterance.

    A resumed run skips the updates that it has done.
    """
    rank, processes = run.accelerator.process_index, run.accelerator.num_processes
    remaining = updates[run.progress.groups :]
    parts = [batch[rank::processes] or batch[:1] for update in remaining for batch in update]
    batches = run.train_set.batches(parts, run.config.augment, (run.config.seed, epoch), views_of(run))
    for update in progress(remaining, f"epoch {epoch + 1}", len(remaining)) if rank == 0 else remaining:
        yield update, [(next(batches), float(rank < len(batch))) for batch in update]


def loss_divisor(run: Run, update: Update) -> float:
    """The divisor of an update's summed loss, the same in every process."""
    items = [item for batch in update for item in batch]
    reduction = run.config.trainer.loss_reduction
    if reduction == "token":
        return float(max(1, sum(len(run.train_set.tokens[item.utterance]) for item in items)))
    return float(len(items)) if reduction == "utterance" else 1.0
