"""Mean and variance normalization of features: per utterance, per speaker, or global (over the training set).

The inputs of pretrained encoders are normalized as they were for the encoder's own training.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import InputError
from asr.features.encoder_inputs import normalize_waveform, normalize_whisper
from asr.features.frames import FRAMES_AT_ONCE, frame_samples

STD_FLOOR = 1e-3
"""A feature with a smaller standard deviation is constant. Dividing by less would only amplify rounding errors."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation of each feature, both (dim,) float32."""

    mean: Tensor
    std: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Normalize features (frames, dim) to zero mean and unit variance."""
        return (features - self.mean) / self.std

    def apply_in_place(self, features: Tensor) -> Tensor:
        """As `apply`, but overwrite the features."""
        return features.sub_(self.mean).div_(self.std)


def compute_statistics(utterances: Iterable[Tensor]) -> FeatureStatistics:
    """Compute statistics over all frames of all utterances, each (frames, dim), with float64 sums.

    Raises:
        InputError: the utterances have no frames.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for features in utterances:
        count += len(features)
        for piece in features.split(FRAMES_AT_ONCE):
            piece64 = piece.double()
            total, squares = total + piece64.sum(0), squares + piece64.square().sum(0)
    if count == 0:
        raise InputError("feature statistics: 0 frames, expected at least 1")
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(STD_FLOOR)
    return FeatureStatistics(mean.float(), std.float())


def normalize(
    features: Tensor,
    config: FeatureConfig,
    speaker: str = "",
    statistics: Mapping[str, FeatureStatistics] | None = None,
    *,
    in_place: bool = False,
) -> Tensor:
    """Normalize features (frames, dim) as ``config.normalization`` says; ``in_place`` overwrites them.

    ``statistics`` has those of each speaker by name, or those of the training set under the key "". An utterance of an
    unknown speaker is normalized by its own statistics.

    Raises:
        InputError: the normalization is global and there are no statistics.
    """
    if config.normalization == "none" or len(features) == 0:
        return features
    if config.normalization == "whisper":
        return normalize_whisper(features)
    if config.normalization == "waveform":
        return normalize_waveform(features, frame_samples(config)[1])
    key = speaker if config.normalization == "speaker" else ""
    chosen = statistics.get(key) if statistics and config.normalization != "utterance" else None
    if chosen is None and config.normalization == "global":
        raise InputError("normalization: global without statistics, expected the statistics of the training set")
    chosen = chosen or compute_statistics([features])
    return chosen.apply_in_place(features) if in_place else chosen.apply(features)
