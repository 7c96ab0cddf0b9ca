"""How the process handles memory."""

import ctypes
import sys

MALLOC_OPTIONS = {-1: 2**31 - 1, -3: 2**30}
"""By their numbers in glibc's malloc.h: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes."""


def keep_freed_memory() -> None:
    """Have the allocator keep what is freed for what comes next, where it is glibc's; elsewhere nothing is done.

    What is handed back must be fetched again page by page: a seventh of the time of a training step, and of recognition.
    """
    if sys.platform == "linux" and hasattr(allocator := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            allocator.mallopt(option, value)
