"""Memory and thread settings of the C libraries below torch. They change the speed and no result."""

import ctypes
import os
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of two options of mallopt, from glibc's malloc.h."""

SPIN_COUNT = "10000"
"""How often an idle thread of libgomp polls before it sleeps, about 0.2 ms. By default it polls for some milliseconds and
takes the core from threads that work on a recurrent layer: a sixth of the time of a training step on two cores.
"""

TRAINING_KEPT_BYTES = 2**30
"""The largest block of memory to keep in training, where each step needs a batch's activations again."""


def tune_process(kept_bytes: int = 2**25) -> None:
    """Keep freed memory, and let idle threads sleep early. Call it before torch is imported.

    Memory that is returned to the system must be mapped again page by page, a seventh of the time of a training step.
    Blocks above ``kept_bytes`` are returned nevertheless, or recordings of hours would occupy most of the memory. The
    environment variable GOMP_SPINCOUNT takes precedence. Without glibc and libgomp this has no effect.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    with suppress(OSError, TypeError, AttributeError):  # another system or C library, without mallopt
        allocator = ctypes.CDLL(None)
        allocator.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        allocator.mallopt(MMAP_THRESHOLD, kept_bytes)


def limit_kernel_caches() -> None:
    """Keep compiled kernels for few shapes. Call it before torch is imported.

    oneDNN and torch keep them for a thousand shapes each, with buffers. Where each batch has its own shape, as in a
    server, memory would grow for hours: by 690 MB in 400 random batches, with these settings by 160, none after the 200th.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")
