"""How many bytes a host has for memory groups."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path


def spare_host_memory() -> int:
    """Returns how many bytes the memory groups of this host may take together.

    That is half of what is available, as trainers have their own copies of the stream and the model, and no more than
    ``/dev/shm`` has. Of a container's limits only that on ``/dev/shm`` is seen.
    """
    report = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s*(\d+) kB", report.read_text(), re.MULTILINE) if report.is_file() else None
    available = int(found[1]) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shared = Path("/dev/shm")
    return min(available // 2, shutil.disk_usage(shared).free) if shared.is_dir() else available // 2
