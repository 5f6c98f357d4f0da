"""How the C library keeps the memory that torch gives back."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
LARGEST_TRIM = 2**31 - 1
LARGEST_MMAP = 32 * 2**20
"""Bytes; glibc accepts no more."""


def keep_freed_memory() -> bool:
    """Lets glibc keep freed buffers for the next training step, which otherwise take more than half of a step on a CPU.

    By default it returns big buffers to the kernel, which clears them again page by page. Where the environment sets
    MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_, or the C library is another one, nothing changes.

    Returns:
        Whether it was set.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP) and mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM))
