"""Whether running the stages beside training gains time on this machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import get_args

import torch

from pyg_mspipe._choices import Overlap
from pyg_mspipe.pipeline.record import BatchRecord, StageName

TRIAL = 8
"""How many batches are measured before ``auto`` decides."""

_BESIDE: tuple[StageName, ...] = ("sample", "gather", "fetch", "update")
_WORTH = 0.04


def parse_overlap(text: str) -> bool | None:
    """Returns whether stages run beside training; None for ``auto``, where measurements decide.

    Raises:
        ValueError: If the text is none of :data:`Overlap`.
    """
    known: dict[str, bool | None] = {"auto": None, "always": True, "never": False}
    if text not in known:
        raise ValueError(f"overlap is {text!r}; choose {', '.join(get_args(Overlap))}")
    return known[text]


def free_cores() -> int:
    """Returns how many cores training leaves idle for each process that torchrun has started on this host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, cores // processes - torch.get_num_threads())


def busy_clock() -> Callable[[], float]:
    """Returns a function that tells how many seconds from now on were busy ones.

    Busy is a thread that computes or waits for a core that others have. Besides this thread's seconds those count that
    the process's other threads wait for a core: this one sleeps meanwhile if it shares a computation with them. Waiting
    for a core is known on Linux alone; elsewhere it is left out.
    """
    others, own = _others_waited(), _own_time()
    return lambda: _own_time() - own + _others_waited() - others


def _own_time() -> float:
    """Returns how many seconds this thread has computed or waited for a core."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:  # noqa: PTH123 - a third of the time
            computed, waited, _ = file.read().split()
    except (OSError, ValueError):
        return time.thread_time()
    return max(time.thread_time(), int(computed) / 1e9) + int(waited) / 1e9


def _others_waited() -> float:
    """Returns how many seconds the process's other threads have waited for a core."""
    waited = 0
    own = str(threading.get_native_id())
    try:
        threads = os.listdir("/proc/self/task")  # noqa: PTH208 - a third of the time
    except OSError:
        return 0.0
    for thread in threads:
        if thread != own:
            try:
                with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:  # noqa: PTH123
                    waited += int(file.read().split()[1])
            except (OSError, ValueError, IndexError):  # it has ended, or this system does not tell
                continue
    return waited / 1e9


def hides_waiting(records: Sequence[BatchRecord]) -> bool:
    """Returns whether the stages wait so much, for a disk for instance, that training meanwhile gains time.

    Where training computes on every core, a stage that computes beside it costs as much time as it saves, and a little
    more. Only the time that a stage waits is gained, and not where it waits for a core: threads would as well.

    Args:
        records: Records of batches whose stages ran one after the other.
    """
    waited = median(sum(r.duration(stage) - r.busy[stage] for stage in _BESIDE) for r in records)
    step = median(r.finish["train"] - r.begin["sample"] for r in records)
    return waited > _WORTH * step
