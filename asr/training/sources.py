"""The sources of training data, manifests and shards, and how each epoch deals their utterances to sections.

A section is what is planned and trained together: everything, or the utterances of ``sources.shards_at_once`` shards with a
share of the manifests. An epoch has each utterance of a source of weight w as often as the whole part of w says, and once
more for a random choice of them, as large as the rest of w says. Everything random follows from (seed, epoch).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.config import CorpusConfig, SourcesConfig
from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.shards import Shards, open_shards
from asr.corpus.stores import is_url
from asr.errors import InputError

DEALING, CHOOSING = 1, 2
"""They keep the random numbers of this module apart from each other and from those of the batches."""


@dataclass(frozen=True)
class Source:
    """A manifest with its utterances, or shards, of which only the index is in memory."""

    location: str
    weight: float
    utterances: Sequence[Utterance] = ()
    shards: Shards | None = None

    @property
    def sizes(self) -> np.ndarray:
        """Utterances of each unit, (units,) int64. A unit is a shard, or one utterance of a manifest."""
        return np.ones(len(self.utterances), np.int64) if self.shards is None else self.shards.utterance_counts

    @property
    def duration_s(self) -> float:
        """Seconds of speech."""
        return sum(one.duration_s for one in self.utterances) if self.shards is None else self.shards.duration_s


def locate(folder: str, name: str) -> str:
    """The path or URL of a manifest or of shards; a relative path starts in ``folder``."""
    return name if is_url(name) else str(Path(folder) / name)


def open_source(location: str, weight: float = 1.0) -> Source:
    """Read a manifest, or the index of shards.

    Raises:
        InputError: it cannot be used.
    """
    if is_url(location) or Path(location).is_dir():
        return Source(location, weight, shards=open_shards(location))
    return Source(location, weight, read_manifest(Path(location)))


def open_sources(corpus: CorpusConfig, sources: SourcesConfig) -> list[Source]:
    """The sources that ``corpus.train`` names.

    Raises:
        InputError: one cannot be used, or the weights do not fit them.
    """
    names = [corpus.train] if isinstance(corpus.train, str) else corpus.train
    weights = sources.weights or [1.0] * len(names)
    if len(weights) != len(names):
        expected = f"expected one for each of the {len(names)} sources in corpus.train"
        raise InputError(f"configuration: sources.weights has {len(weights)} weights, {expected}")
    if not any(weights):
        raise InputError("configuration: corpus.train has no source with a weight above 0, expected at least one")
    return [open_source(locate(corpus.dir, name), weight) for name, weight in zip(names, weights, strict=True)]


def describe_sources(sources: Sequence[Source]) -> str:
    """Utterances, speakers and hours in words. The index of shards does not name the speakers."""
    parts = [f"{sum(int(source.sizes.sum()) for source in sources)} utterances"]
    if all(source.shards is None for source in sources):
        parts.append(f"{len({one.speaker for source in sources for one in source.utterances})} speakers")
    return ", ".join([*parts, f"{sum(source.duration_s for source in sources) / 3600:.2f} h"])


def deal(sources: Sequence[Source], shards_at_once: int, seed: tuple[int, int]) -> list[list[np.ndarray]]:
    """The units of each source in each section of an epoch; ``seed`` is (seed, epoch).

    An array is (units, 3) int64, in the source's order: unit, repetition, and how many of the unit's utterances.
    """
    generator = np.random.default_rng((DEALING, *seed))
    drawn = [_draw(source.sizes, source.weight, generator) for source in sources]
    counts = [0 if source.shards is None else len(units) for source, units in zip(sources, drawn, strict=True)]
    # Evenly over the epoch: the j-th of n shards of a source has its place between j / n and (j + 1) / n.
    places = np.concatenate([(np.arange(count) + generator.random(count)) / max(1, count) for count in counts])
    sections = max(1, -(-len(places) // shards_at_once))
    section_of = np.empty(len(places), np.int64)
    section_of[np.argsort(places)] = np.arange(len(places)) * sections // max(1, len(places))
    by_source = []
    for source, units, own in zip(sources, drawn, np.split(section_of, np.cumsum(counts)[:-1]), strict=True):
        where = np.arange(len(units)) * sections // max(1, len(units)) if source.shards is None else own
        order = np.lexsort((units[:, 0], units[:, 1], where))
        by_source.append(np.split(units[order], np.searchsorted(where[order], np.arange(1, sections))))
    return [list(section) for section in zip(*by_source, strict=True)]


def choose(utterances: Sequence[Utterance], count: int, key: tuple[int, ...]) -> list[Utterance]:
    """So many random utterances, in their order; all of them if there are no more."""
    if count >= len(utterances):
        return list(utterances)
    chosen = np.random.default_rng((CHOOSING, *key)).choice(len(utterances), count, replace=False)
    return [utterances[index] for index in np.sort(chosen)]


def _draw(sizes: np.ndarray, weight: float, generator: np.random.Generator) -> np.ndarray:
    """The units of an epoch in random order, (units, 3) int64 as in `deal`; the last one may be partial."""
    rows, repetitions = [], int(weight)
    for repetition in range(repetitions):
        order = generator.permutation(len(sizes))
        rows.append(np.stack([order, np.full(len(order), repetition), sizes[order]], axis=1))
    order = generator.permutation(len(sizes))
    remaining = round((weight - repetitions) * sizes.sum()) - (np.cumsum(sizes[order]) - sizes[order])
    counts = np.minimum(sizes[order], remaining)
    rest = np.stack([order, np.full(len(order), repetitions), counts], axis=1)
    return np.concatenate([*rows, rest[counts > 0]])
