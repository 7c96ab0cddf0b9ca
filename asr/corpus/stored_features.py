"""Features in shards: compressed with lilcom, steps of 2^-8, half those of float16 for values of 8 to 16.

An error of at most 2^-9 is far below the differences between neighbouring frames of a log-mel filterbank.

Frames of digital silence are NaN if the normalization is running, and lilcom has no NaN. They are stored as zeros, and a
bit for each frame says which they are. lilcom itself, and thereby Lhotse, refuses features with such bits.
"""

from pathlib import Path

import numpy as np

from asr.corpus.tar_members import find_member
from asr.errors import InputError

TICK_POWER = -8
"""Values are rounded to multiples of two to this power."""

MAX_VALUE = 2.0**15
"""Largest absolute value that lilcom's integers hold with this step, with room to spare."""

SILENT_FRAMES = b"\nsilent frames:\n"
"""What separates the compressed features from the bits, if there are any."""


def compress_features(features: np.ndarray) -> bytes:
    """Compress features (frames, dim) float32. A frame with a NaN is digital silence.

    Raises:
        InputError: lilcom is not installed, or a value is too large.
    """
    lilcom, silent = import_lilcom(), np.isnan(features).any(axis=1)
    sounding = np.where(silent[:, None], 0, features).astype(np.float32)  # a copy: lilcom overwrites it
    if (largest := float(np.abs(sounding).max(initial=0))) >= MAX_VALUE:
        raise InputError(f"features: a value of {largest:g}, expected finite values below {MAX_VALUE:g}")
    compressed: bytes = lilcom.compress(sounding, tick_power=TICK_POWER)
    return compressed + SILENT_FRAMES + np.packbits(silent).tobytes() if silent.any() else compressed


def read_stored_features(path: Path) -> np.ndarray:
    """Read the features (frames, dim) float32 of `Utterance.features_path`, not normalized; NaN in digital silence.

    Raises:
        InputError: lilcom is not installed, or the member cannot be read.
    """
    member, lilcom = find_member(path), import_lilcom()
    if member is None:
        raise InputError(f"{path}: not a member of a shard, expected stored features")
    compressed, _, bits = member.read().partition(SILENT_FRAMES)
    try:
        features = np.asarray(lilcom.decompress(compressed), dtype=np.float32)
    except (ValueError, RuntimeError, MemoryError, SystemError) as error:
        raise InputError(f"{path}: not readable ({error}), expected stored features") from error
    if features.ndim != 2:
        raise InputError(f"{path}: an array of {features.ndim} dimensions, expected stored features of 2")
    if bits:
        features[np.unpackbits(np.frombuffer(bits, np.uint8), count=len(features)) == 1] = np.nan
    return features


def import_lilcom():  # type: ignore[no-untyped-def]
    """Import lilcom, which only stored features need."""
    try:
        import lilcom
    except ImportError as error:
        raise InputError("lilcom: not installed, expected it from `pip install 'asr-phones[shards]'`") from error
    return lilcom
