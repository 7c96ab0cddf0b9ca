"""Utterances -> batches: cached features, length bucketing, padding, and a reproducible order.

The order of an epoch and every random choice in it depend only on (seed, epoch, utterance). A run that resumes within an
epoch needs only the number of batches already processed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.corpus.phones import PhoneInventory
from asr.corpus.stored_features import read_stored_features
from asr.corpus.tar_members import find_member
from asr.errors import InputError
from asr.features.augmentation import augment_features, perturb_speed
from asr.features.filterbanks import extract, feature_dim
from asr.features.normalization import NEEDS_STATISTICS, FeatureStatistics, FeatureSums, normalize
from asr.system.threads import in_threads

LENGTH_JITTER = 0.1
"""Durations are scaled by a random factor within 1 +- this before sorting, so that batches differ between epochs."""

TENSORS = ("features", "feature_lengths", "tokens", "token_lengths")
"""The fields of `Batch` that are tensors."""


class Item(NamedTuple):
    """One utterance of an epoch's plan: its index in the split and its playback speed."""

    utterance: int
    speed: float


@dataclass(frozen=True)
class Batch:
    """Utterances padded to the longest, with their true lengths.

    features: (batch, frames, dim) float32, zero beyond each length; feature_lengths: (batch,) int64 in frames;
    tokens: (batch, tokens) int64 symbol ids, zero beyond each length; token_lengths: (batch,) int64;
    ids: utterance ids; items: their indices in the split and their speeds; encoded: the features are outputs of a
    pretrained encoder's frozen layers.
    """

    features: Tensor
    feature_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    ids: tuple[str, ...]
    items: tuple[Item, ...] = ()
    encoded: bool = False

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        moved = {name: getattr(self, name).to(device) for name in TENSORS}
        return replace(self, **moved)


class Dataset:
    """The utterances of one split as normalized features and symbol ids.

    Features are cached in memory, up to ``cache_gib``; the others are computed at each access.
    ``statistics`` are those of `asr.features.normalization.normalize`. With ``encode``, the features are what it makes of
    the samples (samples,): outputs of a pretrained encoder's frozen layers, (frames, dim) float16.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        features: FeatureConfig,
        inventory: PhoneInventory,
        cache_gib: float,
        statistics: Mapping[str, FeatureStatistics] | None = None,
        encode: Callable[[np.ndarray], Tensor] | None = None,
    ) -> None:
        self.utterances = utterances
        self.encode = encode
        self.config = features
        self.inventory = inventory
        self.tokens = [inventory.encode(utterance.phones, utterance.id) for utterance in utterances]
        self.statistics = dict(statistics or {})
        self._cache: dict[Item, Tensor] = {}
        self._free_bytes = cache_gib * 2**30

    def __len__(self) -> int:
        return len(self.utterances)

    def features(self, item: Item) -> Tensor:
        """Normalized features of an utterance at a speed, (frames, dim) float32."""
        if self.encode:
            return self._raw(item).float()
        return normalize(self._raw(item), self.config, self.utterances[item.utterance].speaker, self.statistics)

    def fill_cache(self, speeds: Iterable[float]) -> Iterator[None]:
        """Cache the features of every utterance at each speed until the cache is full; yield after each one."""
        items = [Item(index, speed) for speed in speeds for index in range(len(self))]
        threads = 2 if self.encode else torch.get_num_threads()  # an encoder takes memory in each
        with closing(in_threads(self._extract, items, threads)) as extracted:
            for item, raw in zip(items, extracted, strict=True):
                size = raw.numel() * raw.element_size()
                if size > self._free_bytes:
                    break
                self._cache[item] = raw
                self._free_bytes -= size
                yield

    def without_encoder(self) -> "Dataset":
        """The same utterances with their own features, nothing cached."""
        plain = copy(self)
        plain.encode, plain._cache, plain._free_bytes = None, {}, 0
        return plain

    def learn_statistics(self) -> None:
        """Compute ``statistics`` from the utterances of this split at speed 1.

        Normalization ``speaker`` needs those of each speaker, others those of the whole split under the key "".
        """
        if self.config.normalization in ("speaker", *NEEDS_STATISTICS):
            sums: dict[str, FeatureSums] = defaultdict(FeatureSums)
            self.add_to(sums)
            self.statistics |= {key: one.statistics() for key, one in sums.items()}

    def add_to(self, sums: dict[str, FeatureSums]) -> None:
        """Add the frames of each utterance at speed 1 to the sums of its speaker, or to those under the key ""."""
        for index, utterance in enumerate(self.utterances):
            by_speaker, raw = self.config.normalization == "speaker", self._raw(Item(index, 1.0))
            if len(raw) or not by_speaker:  # a speaker without any frame has no statistics, and needs none
                sums[utterance.speaker if by_speaker else ""].add(raw)

    def batches(
        self,
        plan: Iterable[Sequence[Item]],
        augment: AugmentConfig | None = None,
        seed: tuple[int, ...] = (),
        views: int = 1,
        threads: int = 0,
    ) -> Iterator[Batch]:
        """Yield the batches of a plan, in its order; ``seed`` is (seed, epoch) of the augmentation.

        With two ``views``, a batch has all its utterances, then all of them again with other masks. With ``threads``, a few
        batches are made ahead.
        """
        collate_items = partial(self._collate, augment=augment, seed=seed, views=views)
        return in_threads(collate_items, plan, threads) if threads else map(collate_items, plan)

    def _raw(self, item: Item) -> Tensor:
        """Features before normalization, from the cache if they are in it."""
        return self._cache[item] if item in self._cache else self._extract(item)

    def _extract(self, item: Item) -> Tensor:
        utterance = self.utterances[item.utterance]
        try:
            return self._compute(utterance, item.speed)
        except InputError as error:
            if find_member(utterance.audio_path) is None:
                raise
            # The path of a part of a tar file does not say which utterance it is.
            raise InputError(f"{error} (utterance {utterance.id})") from error

    def _compute(self, utterance: Utterance, speed: float) -> Tensor:
        if utterance.features_path:
            return torch.from_numpy(read_stored_features(utterance.features_path))
        rate = self.config.sample_rate_hz
        samples = read_audio(utterance.audio_path, rate, utterance.start_s, utterance.duration_s)
        if speed != 1.0:
            samples = perturb_speed(samples, speed, rate)
        return self.encode(samples) if self.encode else extract(samples, self.config)

    def _collate(
        self, items: Sequence[Item], augment: AugmentConfig | None, seed: tuple[int, ...], views: int
    ) -> Batch:
        clean = [self.features(item) for item in items]
        features = []
        for view in range(views):
            for item, unaugmented in zip(items, clean, strict=True):
                key = (*seed, item.utterance, view) if view else (*seed, item.utterance)
                generator = np.random.default_rng(key)
                features.append(
                    augment_features(unaugmented, augment, self.config, generator) if augment else unaugmented
                )
        tokens = [torch.tensor(self.tokens[item.utterance], dtype=torch.int64) for item in items]
        ids = tuple(self.utterances[item.utterance].id for item in items)
        dim = features[0].shape[1] if self.encode else feature_dim(self.config)
        batch = collate(features, tokens * views, ids * views, dim)
        return replace(batch, items=tuple(items) * views, encoded=self.encode is not None)


def collate(features: Sequence[Tensor], tokens: Sequence[Tensor], ids: tuple[str, ...], dim: int) -> Batch:
    """Pad features (frames, dim) and symbol ids (tokens,) to a batch, with at least one frame and one token."""
    feature_lengths = torch.tensor([len(f) for f in features], dtype=torch.int64)
    token_lengths = torch.tensor([len(t) for t in tokens], dtype=torch.int64)
    padded_features = torch.zeros(len(features), max(1, int(feature_lengths.max())), dim)
    padded_tokens = torch.zeros(len(tokens), max(1, int(token_lengths.max())), dtype=torch.int64)
    for index, (f, t) in enumerate(zip(features, tokens, strict=True)):
        padded_features[index, : len(f)] = f
        padded_tokens[index, : len(t)] = t
    return Batch(padded_features, feature_lengths, padded_tokens, token_lengths, ids)


def plan_training(
    durations_s: Sequence[float],
    speeds: Sequence[float],
    batch_seconds: float,
    batch_utterances: int,
    seed: tuple[int, int],
) -> list[list[Item]]:
    """Plan an epoch: every utterance once, at a random speed, in batches of similar length, batches in random order.

    A batch has at most ``batch_utterances`` utterances and ``batch_seconds`` of audio including padding, but at least one
    utterance. ``seed`` is (seed, epoch).
    """
    generator = np.random.default_rng(seed)
    drawn_speeds = generator.choice(np.asarray(speeds, dtype=float), len(durations_s))
    lengths_s = np.asarray(durations_s) / drawn_speeds
    order = np.argsort(lengths_s * generator.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(lengths_s)))
    items = [Item(int(index), float(drawn_speeds[index])) for index in order]
    batches = _split_into_batches(items, lengths_s, batch_seconds, batch_utterances)
    return [batches[index] for index in generator.permutation(len(batches))]


def plan_evaluation(durations_s: Sequence[float], batch_seconds: float, batch_utterances: int = 64) -> list[list[Item]]:
    """Plan an evaluation: every utterance once at speed 1, longest first, so that lack of memory shows at once."""
    order = np.argsort(-np.asarray(durations_s), kind="stable")
    items = [Item(int(index), 1.0) for index in order]
    return _split_into_batches(items, np.asarray(durations_s), batch_seconds, batch_utterances)


def _split_into_batches(
    items: Sequence[Item], lengths_s: np.ndarray, batch_seconds: float, batch_utterances: int
) -> list[list[Item]]:
    """Split items into batches, in order; ``lengths_s`` has the length of each utterance of the split."""
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
