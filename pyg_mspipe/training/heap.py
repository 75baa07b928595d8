"""What becomes of memory that the process has freed."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""The numbers of glibc's parameters, from its malloc.h."""

_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Returns whether freed memory of this process is kept for the next step from now on.

    Each step of training frees what it has allocated. glibc gives large blocks back to the system at once, which then
    hands out the same pages again, zeroed, one page fault each; processes that train side by side get into each other's
    way by that. ``mspipe train`` calls this; call it once at the start of a program that trains in a loop of its own.
    The process stays as large as it has been. No number changes.

    It does nothing, and returns ``False``, where the C library is not glibc, or the environment has settings for it.
    """
    if any(name in os.environ for name in _OWN_SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # other systems
        return False
    settings = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}
    return all([mallopt(name, size) == 1 for name, size in settings.items()])
