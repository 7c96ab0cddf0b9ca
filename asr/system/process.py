"""What the process asks of the C libraries below torch, for speed alone: results do not change."""

import ctypes
import os
import sys

MALLOC_OPTIONS = {-1: 2**31 - 1, -3: 2**30}
"""By their numbers in glibc's malloc.h: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes."""

SPINS = "10000"
"""About 0.2 ms. libgomp's own choice is some milliseconds, for which a thread that has nothing to do keeps the core from
those that work on a recurrent layer: a sixth of the time of a training step on two cores.
"""


def tune_process() -> None:
    """Keep freed memory, and end idle threads' waiting in a loop early. To be called before torch is imported.

    Memory that is handed back must be fetched again page by page, a seventh of the time of a training step. Where the
    libraries are not glibc and libgomp nothing is done, and what the environment says goes before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if sys.platform == "linux" and hasattr(allocator := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            allocator.mallopt(option, value)
