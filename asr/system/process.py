"""What the process asks of the C libraries below torch, for speed alone: results do not change."""

import ctypes
import os
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of two options in glibc's malloc.h."""

SPINS = "10000"
"""About 0.2 ms. libgomp's own choice is some milliseconds, for which a thread that has nothing to do keeps the core from
those that work on a recurrent layer: a sixth of the time of a training step on two cores.
"""


KEPT_IN_TRAINING = 2**30
"""Bytes of the largest block of memory worth keeping there: a batch's activations come back with every step."""


def tune_process(kept_bytes: int = 2**25) -> None:
    """Keep freed memory, and end idle threads' waiting in a loop early. To be called before torch is imported.

    Memory that is handed back must be fetched again page by page, a seventh of the time of a training step. Blocks of more
    than ``kept_bytes`` are handed back all the same: where recordings last hours, kept ones would be most of the memory.
    Where the libraries are not glibc and libgomp nothing is done, and what the environment says goes before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    with suppress(OSError, TypeError, AttributeError):  # another system or C library, which has no mallopt
        allocator = ctypes.CDLL(None)
        allocator.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        allocator.mallopt(MMAP_THRESHOLD, kept_bytes)
