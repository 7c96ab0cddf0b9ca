"""The data of a training run: both sets, the updates of a section, and each process's part of them."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from accelerate import Accelerator

from asr.config import FeatureConfig, TrainConfig
from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.features.dataset import Batch, Dataset, Item, plan_training
from asr.features.normalization import NEEDS_STATISTICS, FeatureStatistics, FeatureSums
from asr.system.processor import loading_threads
from asr.system.progress import progress
from asr.training.data_checks import UtteranceCheck, check_index, check_stored_features
from asr.training.distributed import gather
from asr.training.objective import views_of
from asr.training.pretrained import FrozenLayers
from asr.training.run import Run
from asr.training.sections import Section, Sections
from asr.training.shard_reader import ShardReader
from asr.training.sources import locate, open_source, open_sources

log = logging.getLogger("asr.training")

Share = tuple[Batch, float]
"""A process's part of a batch, and the factor on its loss: 0 if it only repeats an utterance to keep in step."""


SharedItems = tuple[list[Item], float]
"""The items of a `Share`, and its factor."""


@dataclass(frozen=True)
class Update:
    """One step of the optimizer: `trainer.accumulation` batches, fewer at the end of a section.

    ``batches`` have this process's items of each. ``divisor`` is that of the loss summed over all processes.
    """

    batches: list[SharedItems]
    divisor: float


STATISTICS_S = 20 * 3600.0
"""Seconds of speech in shards from which the mean and variance of all features are learned."""


def load_data(
    config: TrainConfig,
    accelerator: Accelerator,
    features: FeatureConfig,
    phones: PhoneInventory,
    encode: FrozenLayers | None = None,
    longest_s: float = math.inf,
) -> tuple[Sections, Dataset]:
    """Training and dev sets, with as many features computed as the cache holds. ``encode`` is as `Dataset` takes it.

    ``longest_s`` is the longest utterance that the model can be trained on.

    Raises:
        InputError: a manifest or shards cannot be used, both sets share a speaker, or an utterance is too long.
    """
    corpus, speeds, cache = config.corpus, config.augment.speeds, config.trainer.feature_cache_gib
    if config.augment.frequency_warp and features.name != "fbank":
        warp = f"augment.frequency_warp is {config.augment.frequency_warp} with features {config.features.name}"
        raise InputError(f"configuration: {warp}, expected 0 or fbank")
    sources, dev = open_sources(corpus, config.sources), open_source(locate(corpus.dir, corpus.dev))
    longest_s *= min(speeds)
    for source, played in (*((source, speeds) for source in sources), (dev, [1.0])):
        check_index(source, longest_s)
        check_stored_features(source, features, played, encode is not None)
    reader = ShardReader(config.sources)
    dev_utterances = reader.read_whole(dev)
    check = UtteranceCheck(longest_s, {utterance.speaker for utterance in dev_utterances}, phones)
    in_memory = [utterance for source in sources for utterance in source.utterances]
    check.check_durations(in_memory + dev_utterances, corpus.dir)
    check.check_speakers(in_memory, corpus.dir)
    statistics: dict[str, FeatureStatistics] = {}
    make = partial(Dataset, features=features, inventory=phones, encode=encode, statistics=statistics)
    # A section's features are used once: there is nothing to cache.
    once = any(source.shards is not None for source in sources)
    sections = Sections(sources, config, accelerator, reader, partial(make, cache_gib=0 if once else cache), check)
    dev_set = make(dev_utterances, cache_gib=cache)
    if sections.whole is not None:
        fill_cache(sections.whole, speeds, "train")
    fill_cache(dev_set, [1.0], "dev")
    statistics |= learn_statistics(sections, features.normalization)
    if features.normalization in NEEDS_STATISTICS:
        dev_set.statistics = statistics
    else:
        dev_set.learn_statistics()
    return sections, dev_set


def fill_cache(dataset: Dataset, speeds: Sequence[float], name: str) -> None:
    """Compute as many features as the cache holds, and show the progress."""
    for _ in progress(dataset.fill_cache(speeds), f"features of {name}", len(dataset) * len(speeds)):
        pass


def learn_statistics(sections: Sections, normalization: str) -> dict[str, FeatureStatistics]:
    """The statistics of the training set that the normalization needs."""
    if sections.whole is not None:
        sections.whole.learn_statistics()
        return sections.whole.statistics
    sums: dict[str, FeatureSums] = defaultdict(FeatureSums)
    if normalization == "speaker" or normalization in NEEDS_STATISTICS:
        for dataset in sections.stream(math.inf if normalization == "speaker" else STATISTICS_S):
            dataset.add_to(sums)
    return {key: one.statistics() for key, one in sums.items()}


def remaining_sections(run: Run) -> Iterator[Section]:
    """The sections of the current epoch that are left to train, without those of which every shard is bad.

    Raises:
        InputError: as `Sections.open`; or every shard of the epoch is bad, or the weights choose no utterance.
    """
    epoch, bad = run.progress.epoch, run.progress.bad_shards
    for number in range(run.progress.section, run.sections.count(epoch)):
        section = run.sections.open(epoch, number, bad)
        if len(section.chosen):
            if run.teachers:
                run.teachers.follow(section.dataset)
            yield section
        else:
            run.progress.end_section()
    shards, utterances = run.sections.left_out(epoch, bad)
    if shards:
        log.info("epoch %d: %d bad shards with %d utterances left out", epoch + 1, shards, utterances)
    if not run.progress.loss_count and not shards:
        sources = run.sections.sources
        weights, total = [one.weight for one in sources], sum(int(one.sizes.sum()) for one in sources)
        found = f"sources.weights {weights} choose 0 of {total} utterances for an epoch"
        raise InputError(f"configuration: {found}, expected at least one to train on")
    if not run.progress.loss_count:
        raise InputError("corpus.train: every shard is bad, expected at least one to train on")


def plan_updates(run: Run, section: Section) -> list[Update]:
    """The updates of a section. They follow from the seed alone, so that a resumed run has the same ones."""
    trainer, chosen, processes = run.config.trainer, section.chosen.tolist(), run.sections.sharers
    durations_s = [section.dataset.utterances[index].duration_s for index in chosen]
    largest = trainer.batch_seconds / processes, max(1, trainer.batch_utterances // processes)
    planned = plan_training(durations_s, run.config.augment.speeds, *largest, section.seed)
    batches = [[Item(chosen[item.utterance], item.speed) for item in batch] for batch in planned]
    sizes = np.array([_size(run, section, batch) for batch in batches])
    shared, sizes = _share_batches(run, batches, sizes) if processes == 1 else _fill_up(run, section, batches, sizes)
    updates = []
    for start in range(0, len(shared), trainer.accumulation):
        chunk = slice(start, start + trainer.accumulation)
        divisor = 1.0 if trainer.loss_reduction == "sum" else float(max(1, sizes[chunk].sum()))
        updates.append(Update(shared[chunk], divisor))
    return updates


def _share_batches(run: Run, batches: Sequence[list[Item]], sizes: np.ndarray) -> tuple[list[SharedItems], np.ndarray]:
    """This process's part of batches that all processes have planned: every n-th utterance. The sizes are unchanged."""
    rank, processes = run.accelerator.process_index, run.accelerator.num_processes
    return [(batch[rank::processes] or batch[:1], float(rank < len(batch))) for batch in batches], sizes


def _fill_up(
    run: Run, section: Section, batches: Sequence[list[Item]], sizes: np.ndarray
) -> tuple[list[SharedItems], np.ndarray]:
    """Batches that this process alone has planned, with repeated utterances up to the number of every process.

    The sizes are summed over all processes.
    """
    own = 0 if section.borrowed else len(batches)
    everyone = gather(run.accelerator, sizes[:own])
    count = max(len(one) for one in everyone)
    totals = np.sum([np.pad(one, (0, count - len(one))) for one in everyone], axis=0)
    shared = [(batch, 1.0) for batch in batches[:own]]
    return [*shared, *[(batches[0][:1], 0.0)] * (count - own)], totals


def shares(run: Run, section: Section, updates: Sequence[Update]) -> Iterator[tuple[Update, list[Share]]]:
    """Each update of a section with this process's batches. A resumed run skips the updates that it has done."""
    remaining = updates[run.progress.groups :]
    batches = section.dataset.batches(
        [items for update in remaining for items, _ in update.batches],
        run.config.augment,
        section.seed,
        views_of(run),
        loading_threads(run.accelerator.device),
    )
    part = f", part {section.number + 1} of {section.count}" if section.count > 1 else ""
    label = f"epoch {run.progress.epoch + 1}{part}"
    for update in progress(remaining, label, len(remaining)) if run.accelerator.process_index == 0 else remaining:
        yield update, [(next(batches), factor) for _, factor in update.batches]


def _size(run: Run, section: Section, batch: Sequence[Item]) -> int:
    """What the loss of a batch is divided by: its tokens, or its utterances."""
    if run.config.trainer.loss_reduction == "token":
        return sum(len(section.dataset.tokens[item.utterance]) for item in batch)
    return len(batch)
