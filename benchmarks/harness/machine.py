"""The machine and the software that a measurement was taken with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

_UNSAID = re.compile(r"\((R|TM)\)|(\b\d+-Core )?\bProcessor$", re.IGNORECASE)
_PACKAGES = ("torch", "torch_geometric", "torch_scatter", "numpy", "pyg-mspipe")


def describe_machine() -> dict[str, object]:
    """Returns what a reader needs to judge a figure: processor, threads, versions, commit and day.

    Called before measuring, so that the load average tells whether something else was running.
    """
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", ":!benchmarks/results")),
        "taken": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    """The processor's name; Python itself knows it on few systems."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return plain_cpu_name(line.partition(":")[2])
    return platform.processor() or platform.machine()


def plain_cpu_name(model: str) -> str:
    """Returns a processor's name without marks of trade and what goes without saying."""
    return " ".join(_UNSAID.sub(" ", model.strip()).split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*args: str) -> str | None:
    """What git prints about the checkout that this file is in, if it is in one."""
    root = Path(__file__).parents[2]
    try:
        return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
