"""Features in shards: compressed with lilcom, steps of 2^-8, half those of float16 for values of 8 to 16.

An error of at most 2^-9 is far below the differences between neighbouring frames of a log-mel filterbank.
"""

from pathlib import Path

import numpy as np

from asr.corpus.tar_members import find_member
from asr.errors import InputError

TICK_POWER = -8
"""Values are rounded to multiples of two to this power."""

MAX_VALUE = 2.0**15
"""Largest absolute value that lilcom's integers hold with this step, with room to spare."""


def compress_features(features: np.ndarray) -> bytes:
    """Compress features (frames, dim) float32.

    Raises:
        InputError: lilcom is not installed, or a value is too large or not finite.
    """
    lilcom = import_lilcom()
    if not (np.abs(features) < MAX_VALUE).all():
        largest = float(np.abs(features).max())
        raise InputError(f"features: a value of {largest:g}, expected finite values below {MAX_VALUE:g}")
    compressed: bytes = lilcom.compress(
        np.array(features, np.float32), tick_power=TICK_POWER
    )  # a copy: it is overwritten
    return compressed


def read_stored_features(path: Path) -> np.ndarray:
    """Read the features (frames, dim) float32 of `Utterance.features_path`, not normalized.

    Raises:
        InputError: lilcom is not installed, or the member cannot be read.
    """
    member, lilcom = find_member(path), import_lilcom()
    if member is None:
        raise InputError(f"{path}: not a member of a shard, expected stored features")
    try:
        features = np.asarray(lilcom.decompress(member.read()), dtype=np.float32)
    except (ValueError, RuntimeError, MemoryError, SystemError) as error:
        raise InputError(f"{path}: not readable ({error}), expected stored features") from error
    if features.ndim != 2:
        raise InputError(f"{path}: an array of {features.ndim} dimensions, expected stored features of 2")
    return features


def import_lilcom():  # type: ignore[no-untyped-def]
    """Import lilcom, which only stored features need."""
    try:
        import lilcom
    except ImportError as error:
        raise InputError("lilcom: not installed, expected it from `pip install 'asr-phones[shards]'`") from error
    return lilcom
