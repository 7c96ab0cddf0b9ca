"""Mean and variance normalization of features: per utterance, per speaker, or over the training set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import InputError
from asr.features.frames import FRAMES_AT_ONCE

STD_FLOOR = 1e-3
"""Below this standard deviation a feature is constant, and dividing by it would only enlarge rounding errors."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation of each feature, (dim,) float32 both."""

    mean: Tensor
    std: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """(frames, dim) features with the mean removed and the variance made one."""
        return (features - self.mean) / self.std

    def apply_in_place(self, features: Tensor) -> Tensor:
        """The same where the features need not be kept: they are overwritten."""
        return features.sub_(self.mean).div_(self.std)


def statistics(utterances: Iterable[Tensor]) -> FeatureStatistics:
    """Statistics over all frames of all utterances, each (frames, dim); summed in float64."""
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for features in utterances:
        count += len(features)
        for piece in features.split(FRAMES_AT_ONCE):
            wide = piece.double()
            total, squares = total + wide.sum(0), squares + wide.square().sum(0)
    if count == 0:
        raise InputError("feature statistics: 0 frames, expected at least 1")
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(STD_FLOOR)
    return FeatureStatistics(mean.float(), std.float())


def normalize(
    features: Tensor,
    config: FeatureConfig,
    speaker: str = "",
    known: Mapping[str, FeatureStatistics] | None = None,
    *,
    in_place: bool = False,
) -> Tensor:
    """Features normalized as ``config.normalization`` says; ``in_place`` overwrites the given ones.

    ``known`` holds the statistics of each speaker, or under the key "" those of the training set. A speaker of whom
    nothing is known is normalized by the utterance itself.
    """
    if config.normalization == "none" or len(features) == 0:
        return features
    key = speaker if config.normalization == "speaker" else ""
    chosen = known.get(key) if known and config.normalization != "utterance" else None
    if chosen is None and config.normalization == "global":
        raise InputError("normalization: global without statistics, expected those of the training set")
    chosen = chosen or statistics([features])
    return chosen.apply_in_place(features) if in_place else chosen.apply(features)
