"""Makes the C library keep the memory that torch frees."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
LARGEST_TRIM = 2**31 - 1
LARGEST_MMAP = 32 * 2**20
"""Bytes; glibc accepts no larger value."""


def keep_freed_memory() -> bool:
    """Lets glibc keep freed buffers for the next training step.

    By default glibc returns large buffers to the kernel, and the kernel has to clear every page of the next buffer. On
    a CPU this takes more than half of the time of a step. Nothing changes if the environment sets
    MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_, or if the C library is not glibc.

    Returns:
        Whether it was set.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP) and mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM))
