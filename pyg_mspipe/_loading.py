"""A command's setup before PyTorch is imported: huge pages, threads that wait, and Ctrl-C during the imports."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType

HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
"""Environment variables that make PyTorch ask Linux for huge pages for large tensors, which saves address look-ups."""

SHORT_SPIN = {"GOMP_SPINCOUNT": "10000"}
"""How many turns a thread of GNU's OpenMP that waits for the others keeps its core before it sleeps.

The default, 300,000, takes milliseconds: beside other programs it keeps the core from the very thread that is waited
for. Far fewer have threads sleep between any two operations of a step.
"""

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The environment variables by which a user says how threads wait."""


@contextmanager
def loading() -> Iterator[None]:
    """Ends a command that is interrupted during its imports with one line and exit code 130.

    A signal handler does so, since some modules swallow a ``KeyboardInterrupt``. It is not set if another program
    imports the package or has its own handler. A command also gets :data:`HUGE_PAGES` and :data:`SHORT_SPIN`, unless
    its environment says otherwise.
    """
    is_command = _is_command()
    if is_command:
        _set_environment()
    if not is_command or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _set_environment() -> None:
    wanted = HUGE_PAGES if any(name in os.environ for name in _WAITING) else HUGE_PAGES | SHORT_SPIN
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def _end(signum: int, frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(130)  # nothing was begun


def _is_command() -> bool:
    """Returns whether this process is ``mspipe`` or ``python -m pyg_mspipe``."""
    return Path(sys.argv[0]).stem == "mspipe" or ("-m", "pyg_mspipe") in pairwise(sys.orig_argv)
