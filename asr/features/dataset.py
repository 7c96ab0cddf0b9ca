"""Utterances -> batches: features with a cache, bucketing by length, collation, and an order that can be resumed.

The order of an epoch and every random choice in it follow from (seed, epoch, utterance) alone: a run that goes on in
the middle of an epoch needs no more than the number of batches it has seen.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.corpus.phones import PhoneInventory
from asr.features.augmentation import augment_features, perturb_speed
from asr.features.filterbanks import extract, feature_dim
from asr.features.normalization import FeatureStatistics, normalize, statistics

LENGTH_JITTER = 0.1
"""Lengths are multiplied by up to 1 +- this before sorting, so that batches differ from epoch to epoch."""


class Item(NamedTuple):
    """One utterance of an epoch's plan: its index in the split, and the speed it is played at."""

    utterance: int
    speed: float


@dataclass(frozen=True)
class Batch:
    """Utterances padded to the longest, with their true lengths.

    features: (batch, frames, dim) float32, zero beyond each length; feature_lengths: (batch,) int64 in frames;
    tokens: (batch, longest) int64 symbol ids, zero beyond each length; token_lengths: (batch,) int64; ids: their names;
    items: where in their split they are and how fast they are played.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    ids: tuple[str, ...]
    items: tuple[Item, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on another device."""
        moved = {name: getattr(self, name).to(device) for name in TENSORS}
        return replace(self, **moved)


TENSORS = ("features", "feature_lengths", "tokens", "token_lengths")


class Dataset:
    """The utterances of one split as normalized features and symbol ids.

    Features are kept in memory until ``cache_gib`` is full; what no longer fits is computed each time it is asked for.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        features: FeatureConfig,
        inventory: PhoneInventory,
        cache_gib: float,
        known: Mapping[str, FeatureStatistics] | None = None,
    ) -> None:
        self.utterances = utterances
        self.config = features
        self.tokens = [inventory.encode(utterance.phones, utterance.id) for utterance in utterances]
        self.known = dict(known or {})
        self._cache: dict[Item, Tensor] = {}
        self._room_bytes = cache_gib * 2**30

    def __len__(self) -> int:
        return len(self.utterances)

    def features(self, item: Item) -> Tensor:
        """Normalized features of an utterance at a speed, (frames, dim) float32."""
        raw = self._cache[item] if item in self._cache else self._extract(item)
        return normalize(raw, self.config, self.utterances[item.utterance].speaker, self.known)

    def fill_cache(self, speeds: Iterable[float], workers: int = 2) -> Iterator[None]:
        """Compute every utterance's features at each speed, yielding after each one (for a progress bar)."""
        items = [Item(index, speed) for speed in speeds for index in range(len(self))]
        with ThreadPoolExecutor(workers) as pool:
            for item, raw in zip(items, pool.map(self._extract, items), strict=True):
                size = raw.numel() * raw.element_size()
                if size <= self._room_bytes:
                    self._cache[item] = raw
                    self._room_bytes -= size
                yield

    def learn_statistics(self) -> None:
        """Fill ``known`` from this split's own utterances at their own speed, as the normalization needs it.

        For ``speaker`` that is each speaker's statistics, for ``global`` those of the whole split under the key "".
        """
        if self.config.normalization not in ("speaker", "global"):
            return
        groups: dict[str, list[Item]] = defaultdict(list)
        for index, utterance in enumerate(self.utterances):
            groups[utterance.speaker if self.config.normalization == "speaker" else ""].append(Item(index, 1.0))
        for key, items in groups.items():
            raw = (self._cache[item] if item in self._cache else self._extract(item) for item in items)
            self.known[key] = statistics(raw)

    def batches(
        self,
        plan: Sequence[Sequence[Item]],
        augment: AugmentConfig | None = None,
        seed: tuple[int, ...] = (),
        views: int = 1,
    ) -> Iterator[Batch]:
        """The batches of a plan, in its order; ``seed`` is (seed, epoch) of the augmentation.

        With two ``views`` a batch holds all its utterances, then all of them again, masked in other places.

        They are made when they are asked for, not by a thread in the background: with a cache that takes a hundredth of the
        model's time, and the model has work for all cores.
        """
        for items in plan:
            yield self._collate(items, augment, seed, views)

    def _extract(self, item: Item) -> Tensor:
        utterance = self.utterances[item.utterance]
        rate = self.config.sample_rate_hz
        samples = read_audio(utterance.audio_path, rate, utterance.start_s, utterance.duration_s)
        if item.speed != 1.0:
            samples = perturb_speed(samples, item.speed, rate)
        return extract(samples, self.config)

    def _collate(
        self, items: Sequence[Item], augment: AugmentConfig | None, seed: tuple[int, ...], views: int
    ) -> Batch:
        clean = [self.features(item) for item in items]
        features = []
        for view in range(views):
            for item, one in zip(items, clean, strict=True):
                key = (*seed, item.utterance, view) if view else (*seed, item.utterance)
                generator = np.random.default_rng(key)
                features.append(augment_features(one, augment, self.config, generator) if augment else one)
        tokens = [torch.tensor(self.tokens[item.utterance], dtype=torch.int64) for item in items]
        ids = tuple(self.utterances[item.utterance].id for item in items)
        batch = collate(features, tokens * views, ids * views, feature_dim(self.config))
        return replace(batch, items=tuple(items) * views)


def collate(features: Sequence[Tensor], tokens: Sequence[Tensor], ids: tuple[str, ...], dim: int) -> Batch:
    """Pad (frames, dim) features and (tokens,) ids to a batch; at least one frame, so that no tensor is empty."""
    feature_lengths = torch.tensor([len(f) for f in features], dtype=torch.int64)
    token_lengths = torch.tensor([len(t) for t in tokens], dtype=torch.int64)
    padded = torch.zeros(len(features), max(1, int(feature_lengths.max())), dim)
    labels = torch.zeros(len(tokens), max(1, int(token_lengths.max())), dtype=torch.int64)
    for row, (f, t) in enumerate(zip(features, tokens, strict=True)):
        padded[row, : len(f)] = f
        labels[row, : len(t)] = t
    return Batch(padded, feature_lengths, labels, token_lengths, ids)


def plan_training(
    durations_s: Sequence[float],
    speeds: Sequence[float],
    batch_seconds: float,
    batch_utterances: int,
    seed: tuple[int, int],
) -> list[list[Item]]:
    """One epoch: every utterance once, at a random speed, in batches of similar length, batches in random order.

    A batch takes at most ``batch_utterances`` utterances and ``batch_seconds`` of audio, padding included (one utterance
    at least). ``seed`` is (seed, epoch).
    """
    generator = np.random.default_rng(seed)
    drawn = generator.choice(np.asarray(speeds, dtype=float), len(durations_s))
    lengths = np.asarray(durations_s) / drawn
    order = np.argsort(lengths * generator.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(lengths)))
    items = [Item(int(index), float(drawn[index])) for index in order]
    batches = _cut(items, lengths, batch_seconds, batch_utterances)
    return [batches[index] for index in generator.permutation(len(batches))]


def plan_evaluation(durations_s: Sequence[float], batch_seconds: float, batch_utterances: int = 64) -> list[list[Item]]:
    """Every utterance once at its own speed, longest first, so that want of memory shows at once."""
    order = np.argsort(-np.asarray(durations_s), kind="stable")
    items = [Item(int(index), 1.0) for index in order]
    return _cut(items, np.asarray(durations_s), batch_seconds, batch_utterances)


def _cut(items: Sequence[Item], lengths_s: np.ndarray, batch_seconds: float, batch_utterances: int) -> list[list[Item]]:
    batches: list[list[Item]] = []
    longest = 0.0
    for item in items:
        longest = max(longest, float(lengths_s[item.utterance]))
        full = not batches or len(batches[-1]) == batch_utterances or longest * (len(batches[-1]) + 1) > batch_seconds
        if full:
            batches.append([])
            longest = float(lengths_s[item.utterance])
        batches[-1].append(item)
    return batches
