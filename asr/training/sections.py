"""The training set, opened section by section. While one section is trained, the next one is read in the background.

Memory holds two sections, whatever the size of the corpus. Without shards, all epochs have one and the same section, whose
features are cached. Every process has all of a section; with ``sources.split`` it has its part of the shards alone, of a
section that is larger by the number of processes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from asr.config import TrainConfig
from asr.corpus.manifest import Utterance
from asr.errors import InputError
from asr.features.dataset import Dataset
from asr.system.progress import progress
from asr.training.data_checks import UtteranceCheck
from asr.training.distributed import gather
from asr.training.shard_reader import Loaded, ShardReader, Visit
from asr.training.sources import Source, deal

T = TypeVar("T")

MAX_EPOCHS = 10_000
"""The most epochs of a training, so that one number can stand for epoch and section."""

SAMPLING = 3
"""Keeps the random order of `Sections.stream` apart from other random numbers."""


@dataclass(frozen=True)
class Section:
    """Utterances that are planned and trained together: section ``number`` of the ``count`` of an epoch.

    ``chosen``, (utterances,) int64, are their indices in ``dataset``. ``seed`` decides their order and augmentation.
    ``borrowed``: this process has none of its own, but one of another process, to keep in step.
    """

    number: int
    count: int
    dataset: Dataset
    chosen: np.ndarray
    seed: tuple[int, int]
    borrowed: bool = False

    def epoch_fraction(self, fraction: float) -> float:
        """The fraction of the epoch that is done after this fraction of the section."""
        return (self.number + fraction) / self.count


class Sections:
    """The sections of each epoch of a training set."""

    def __init__(
        self,
        sources: Sequence[Source],
        config: TrainConfig,
        accelerator: Accelerator,
        reader: ShardReader,
        make_dataset: Callable[[Sequence[Utterance]], Dataset],
        check: UtteranceCheck,
    ) -> None:
        self.sources, self.seed, self.epochs = sources, config.seed, config.trainer.epochs
        self._accelerator = accelerator
        split = config.sources.split and accelerator.num_processes > 1
        self.sharers = accelerator.num_processes if split else 1
        """Processes that share a section: 1 if every process has all of it."""
        self._place = accelerator.process_index if split else 0
        self._shards_at_once = config.sources.shards_at_once * self.sharers
        self._reader, self._make_dataset, self._check = reader, make_dataset, check
        self._plans: dict[int, list[list[np.ndarray]]] = {}
        self.whole: Dataset | None = None
        """The only dataset if nothing is in shards: each source's utterances as often as an epoch may have them."""
        if all(source.shards is None for source in sources):
            if config.sources.split:
                raise InputError("configuration: sources.split without shards in corpus.train, expected shards")
            self.whole = make_dataset([one for s in sources for one in [*s.utterances] * math.ceil(s.weight)])

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the index of shards, by place."""
        return {source.location: source.shards.digest for source in self.sources if source.shards is not None}

    def count(self, epoch: int) -> int:
        """Sections of an epoch."""
        return len(self._plan(epoch))

    def open(self, epoch: int, number: int, bad: dict[str, str]) -> Section:
        """A section of an epoch. ``bad`` has the shards to leave out, with reasons; those found now are added to it.

        Raises:
            InputError: a store does not answer, an utterance cannot be used, or a shard is bad and must not be skipped.
        """
        count = self.count(epoch)
        seed = self.seed, epoch + MAX_EPOCHS * (number * self.sharers + self._place)
        if self.whole is not None:
            return Section(number, count, self.whole, self._chosen(epoch), seed)
        loaded = self._load_in_all_processes(self._own_visits(epoch, number, bad), bad)
        self._reader.use(loaded.in_use)
        following = (epoch, number + 1) if number + 1 < count else (epoch + 1, 0)
        if following[0] < self.epochs:
            self._reader.start(self._own_visits(*following, bad), self._check)
        utterances = self._own(self._from_manifests(epoch, number))
        utterances += [one for shard, part in loaded.parts if shard not in bad for one in part]
        found = any(gather(self._accelerator, bool(utterances)))
        borrowed = found and not utterances
        dataset = self._in_all_processes(
            lambda: self._make_dataset(self._borrow(epoch, number, bad) if borrowed else utterances)
        )
        return Section(number, count, dataset, np.arange(len(dataset)), seed, borrowed)

    def sample(self, bad: dict[str, str]) -> Dataset:
        """Some of the training set: all of it without shards, else what this process has of the first section.

        Processes need not be in step.
        """
        if self.whole is not None:
            return self.whole
        loaded = self._reader.load(self._own_visits(0, 0, bad), self._check)
        self._reader.use(loaded.in_use)
        utterances = self._own(self._from_manifests(0, 0))
        return self._make_dataset(utterances + [one for _, part in loaded.parts for one in part])

    def stream(self, longest_s: float) -> Iterator[Dataset]:
        """The manifests, then shards in random order until they have so many seconds, one dataset after another."""
        for source in self.sources:
            if source.shards is None:
                yield self._make_dataset(source.utterances)
        visits = [
            _visit(source, number, int(count), ())
            for source in self.sources
            for number, count in enumerate(source.sizes if source.shards is not None else ())
        ]
        order = np.random.default_rng((SAMPLING, self.seed)).permutation(len(visits))
        seconds = 0.0
        for index in progress(order.tolist(), "feature statistics", len(order)):
            if seconds >= longest_s:
                return
            loaded = self._reader.load([visits[index]], self._check)
            self._reader.report(loaded.bad)
            self._reader.use(loaded.in_use)
            for _, part in loaded.parts:
                seconds += sum(utterance.duration_s for utterance in part)
                yield self._make_dataset(part)

    def left_out(self, epoch: int, bad: dict[str, str]) -> tuple[int, int]:
        """How many shards of an epoch are bad, and how many utterances it lacks for that."""
        if not bad:
            return 0, 0
        visits = (visit for number in range(self.count(epoch)) for visit in self._visits(epoch, number))
        counts = [visit.count for visit in visits if visit.name in bad]
        return len(counts), sum(counts)

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.close()

    def _plan(self, epoch: int) -> list[list[np.ndarray]]:
        """What `deal` returns for an epoch; the plan of the epoch before is kept, since reading runs ahead."""
        if epoch not in self._plans:
            kept = {one: plan for one, plan in self._plans.items() if one == epoch - 1}
            self._plans = {**kept, epoch: deal(self.sources, self._shards_at_once, (self.seed, epoch))}
        return self._plans[epoch]

    def _chosen(self, epoch: int) -> np.ndarray:
        """The indices in ``whole`` of an epoch's utterances."""
        chosen, start = [], 0
        for source, units in zip(self.sources, self._plan(epoch)[0], strict=True):
            chosen.append(start + units[:, 1] * len(source.utterances) + units[:, 0])
            start += len(source.utterances) * math.ceil(source.weight)
        return np.concatenate(chosen)

    def _visits(self, epoch: int, number: int) -> list[Visit]:
        """The shards of a section."""
        return [
            _visit(source, shard, count, (self.seed, epoch, index, shard, repetition))
            for index, (source, units) in enumerate(zip(self.sources, self._plan(epoch)[number], strict=True))
            for shard, repetition, count in (units.tolist() if source.shards is not None else ())
        ]

    def _own_visits(self, epoch: int, number: int, bad: dict[str, str]) -> list[Visit]:
        """The shards of a section that this process has, except those known to be bad. Bad ones do not move others."""
        return [visit for visit in self._own(self._visits(epoch, number)) if visit.name not in bad]

    def _own(self, items: list[T]) -> list[T]:
        """The part of a section's shards or utterances that this process has."""
        return items[self._place :: self.sharers]

    def _borrow(self, epoch: int, number: int, bad: dict[str, str]) -> list[Utterance]:
        """One utterance of a section, whichever process has it.

        Raises:
            InputError: its shard cannot be read here.
        """
        utterances = self._from_manifests(epoch, number)
        if not utterances:
            visit = next(visit for visit in self._visits(epoch, number) if visit.name not in bad)
            loaded = self._reader.load([visit], self._check)
            if loaded.bad:
                raise InputError(loaded.bad[visit.name])
            self._reader.use(loaded.in_use)
            ((_, utterances),) = loaded.parts
        return utterances[:1]

    def _in_all_processes(self, work: Callable[[], T]) -> T:
        """Do work in every process. What fails in one of them fails in all.

        Raises:
            InputError: it failed.
        """
        result, problem = list[T](), ""
        try:
            result.append(work())
        except InputError as error:
            problem = str(error)
        for one in gather(self._accelerator, problem):
            if one:
                raise InputError(one)
        return result[0]

    def _from_manifests(self, epoch: int, number: int) -> list[Utterance]:
        """The utterances of a section that are not in shards."""
        return [
            source.utterances[index]
            for source, units in zip(self.sources, self._plan(epoch)[number], strict=True)
            for index in (units[:, 0].tolist() if source.shards is None else ())
        ]

    def _load_in_all_processes(self, visits: Sequence[Visit], bad: dict[str, str]) -> Loaded:
        """Load shards. Those that are bad in one process are left out in all, so that all train on the same utterances."""
        loaded = self._in_all_processes(lambda: self._reader.take(visits, self._check))
        outcomes = gather(self._accelerator, loaded.bad)
        found = {name: reason for failed in outcomes for name, reason in failed.items()}
        self._reader.report(found)
        bad |= found
        return loaded


def _visit(source: Source, shard: int, count: int, key: tuple[int, ...]) -> Visit:
    assert source.shards is not None
    return Visit(source.shards, shard, count, key, f"{source.location}: {source.shards[shard].name}")
