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


KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "16"}
"""How many compiled kernels oneDNN and torch keep. By default it is those of a thousand shapes each, with buffers. Batches
have shapes of their own: memory would grow for hours, and hardly a kernel would be used again.
"""


def tune_process(kept_bytes: int = 2**25) -> None:
    """Keep freed memory and few kernels, and let idle threads sleep early. Call it before torch is imported.

    Memory that is returned to the system must be mapped again page by page, a seventh of the time of a training step.
    Blocks above ``kept_bytes`` are returned nevertheless, or recordings of hours would occupy most of the memory. The
    environment variables GOMP_SPINCOUNT and those of `KERNEL_CACHES` take precedence. Without glibc and libgomp the rest
    has no effect.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for name, capacity in KERNEL_CACHES.items():
        os.environ.setdefault(name, capacity)
    with suppress(OSError, TypeError, AttributeError):  # another system or C library, without mallopt
        allocator = ctypes.CDLL(None)
        allocator.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        allocator.mallopt(MMAP_THRESHOLD, kept_bytes)
