"""Normalized features while the samples of a recording arrive."""

import numpy as np
from torch import Tensor

from asr.config import FeatureConfig
from asr.errors import InputError
from asr.features.filterbanks import extract
from asr.features.frames import frame_count, frame_samples
from asr.features.normalization import FeatureStatistics, RunningNormalizer


class StreamedFeatures:
    """The features of one stream, equal to those of the whole recording at once."""

    def __init__(self, config: FeatureConfig, statistics: FeatureStatistics | None) -> None:
        """``statistics`` are those of the training set.

        Raises:
            InputError: the features need later frames.
        """
        length, shift = frame_samples(config)
        if shift > length:
            raise InputError(f"features: frames of {length} samples every {shift}, expected no samples between them")
        if config.normalization != "running" or config.delta_order or config.padding_ms or statistics is None:
            found = (
                f"normalization {config.normalization}, {config.delta_order} deltas, padding {config.padding_ms:g} ms"
            )
            raise InputError(f"model: {found}, expected running, 0 and 0 for a stream (features=fbank_running)")
        self.config = config
        self._normalizer = RunningNormalizer(statistics)
        self._pending = np.zeros(0, np.float32)

    def accept(self, samples: np.ndarray) -> Tensor:
        """Take the next samples (samples,) float32 at the model's rate; returns the new frames (frames, dim)."""
        length, shift = frame_samples(self.config)
        self._pending = np.concatenate([self._pending, samples])
        frames = frame_count(len(self._pending), self.config)
        complete = self._pending[: (frames - 1) * shift + length] if frames else self._pending[:0]
        self._pending = self._pending[frames * shift :]
        return self._normalizer(extract(complete, self.config))
