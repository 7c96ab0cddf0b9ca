"""Mean and variance normalization of features: per utterance, per speaker, global (over the training set), or running.

Running normalization sees no frame before its time: it is for recognition while someone speaks. It begins with the training
set's statistics and gives old frames less and less weight.

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

NEEDS_STATISTICS = ("global", "running")
"""Normalizations with the statistics of the training set."""

PRIOR_FRAMES = 100.0
"""The training set's statistics count as so many frames before the first one of a recording."""

FORGETTING = 1 - 1 / 2000
"""Weight of the past, for each frame of running normalization: it remembers about 2000 frames, 20 s."""

FRAMES_OF_A_SCAN = 500
"""Running sums are computed over so many frames at once, so that the weights stay within float64's range."""

QUIET = -1.0
"""What running normalization makes of digital silence: one standard deviation below the mean."""


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


class FeatureSums:
    """Sums over frames, in float64, from which statistics follow."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = (
            0,
            torch.zeros(1, dtype=torch.float64),
            torch.zeros(1, dtype=torch.float64),
        )

    def add(self, features: Tensor) -> None:
        """Add the frames of an utterance (frames, dim)."""
        features = features[~features.isnan().any(dim=1)]  # digital silence, if the normalization is running
        self.count += len(features)
        for piece in features.split(FRAMES_AT_ONCE):
            piece64 = piece.double()
            self.total, self.squares = self.total + piece64.sum(0), self.squares + piece64.square().sum(0)

    def statistics(self) -> FeatureStatistics:
        """Mean and standard deviation of all frames.

        Raises:
            InputError: there are none.
        """
        if self.count == 0:
            raise InputError("feature statistics: 0 frames, expected at least 1")
        mean = self.total / self.count
        std = (self.squares / self.count - mean.square()).clamp_min(0).sqrt().clamp_min(STD_FLOOR)
        return FeatureStatistics(mean.float(), std.float())


def compute_statistics(utterances: Iterable[Tensor]) -> FeatureStatistics:
    """Compute statistics over all frames of all utterances, each (frames, dim).

    Raises:
        InputError: the utterances have no frames.
    """
    sums = FeatureSums()
    for features in utterances:
        sums.add(features)
    return sums.statistics()


class RunningNormalizer:
    """Running normalization of one recording, whose frames may come in any pieces."""

    def __init__(self, statistics: FeatureStatistics) -> None:
        mean, std = statistics.mean.double(), statistics.std.double()
        self._weight = PRIOR_FRAMES
        self._sums = PRIOR_FRAMES * torch.stack([mean, std.square() + mean.square()])

    def __call__(self, features: Tensor) -> Tensor:
        """Normalize the next frames (frames, dim). Those of digital silence are NaN, and change nothing."""
        pieces = features.split(FRAMES_OF_A_SCAN) if len(features) else [features]
        return torch.cat([self._normalize(piece) for piece in pieces])

    def _normalize(self, features: Tensor) -> Tensor:
        values = features.double()
        silent = values.isnan().any(dim=1)
        values = values.masked_fill(silent[:, None], 0)
        fading = FORGETTING ** (~silent).double().cumsum(0)
        counted = torch.cat([values.new_tensor([self._weight]), (~silent) / fading]).cumsum(0)[1:] * fading
        moments = torch.stack([values, values.square()], dim=1) / fading[:, None, None]  # (frames, 2, dim)
        sums = torch.cat([self._sums[None], moments]).cumsum(0)[1:] * fading[:, None, None]
        mean, square = (sums / counted[:, None, None]).unbind(1)
        std = (square - mean.square()).clamp_min(0).sqrt().clamp_min(STD_FLOOR)
        if len(values):
            self._weight, self._sums = float(counted[-1]), sums[-1]
        return ((values - mean) / std).masked_fill(silent[:, None], QUIET).float()


def normalize(
    features: Tensor,
    config: FeatureConfig,
    speaker: str = "",
    statistics: Mapping[str, FeatureStatistics] | None = None,
    *,
    in_place: bool = False,
) -> Tensor:
    """Normalize features (frames, dim) as ``config.normalization`` says; ``in_place`` overwrites them.

    ``statistics`` has those of each speaker by name, or those of the training set under the key "" (global and running
    normalization). An utterance of an unknown speaker is normalized by its own statistics.

    Raises:
        InputError: the normalization is global or running and there are no statistics.
    """
    if config.normalization == "none" or len(features) == 0:
        return features
    if config.normalization == "whisper":
        return normalize_whisper(features)
    if config.normalization == "waveform":
        return normalize_waveform(features, frame_samples(config)[1])
    key = speaker if config.normalization == "speaker" else ""
    chosen = statistics.get(key) if statistics and config.normalization != "utterance" else None
    if chosen is None and config.normalization in NEEDS_STATISTICS:
        expected = "expected the statistics of the training set"
        raise InputError(f"normalization: {config.normalization} without statistics, {expected}")
    if chosen and config.normalization == "running":
        return RunningNormalizer(chosen)(features)
    chosen = chosen or compute_statistics([features])
    return chosen.apply_in_place(features) if in_place else chosen.apply(features)
