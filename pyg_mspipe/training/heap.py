"""Whether a process keeps the memory that it frees, or returns it to the system."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""The parameters of glibc's ``mallopt``, from malloc.h."""

_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Has this process keep freed memory for the next step, and returns whether it will.

    Each training step frees what it has allocated. By default glibc returns large blocks to the system at once, and
    the next step gets the same pages back, zeroed, with a page fault for each; processes that train side by side slow
    each other down by that. ``mspipe train`` calls this function; call it once at the start of a program with a
    training loop of its own. The process then stays as large as it once was. No number changes.

    It does nothing and returns ``False`` if the C library is not glibc, or the environment sets these parameters.
    """
    if any(name in os.environ for name in _OWN_SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # other systems
        return False
    settings = {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 1 << 26}
    return all([mallopt(name, size) == 1 for name, size in settings.items()])
