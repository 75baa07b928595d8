"""Ctrl-C in the seconds that it takes to load PyTorch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType


@contextmanager
def loading() -> Iterator[None]:
    """Ends a command that is interrupted while its modules are imported, in one line and with exit code 130.

    By a signal handler, as not every module lets a ``KeyboardInterrupt`` through. Where another program imports the
    package, or has a handler of its own, nothing is changed.
    """
    if not _is_command() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(signum: int, frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(130)  # nothing was begun


def _is_command() -> bool:
    """Returns whether this process is ``mspipe`` or ``python -m pyg_mspipe``."""
    return Path(sys.argv[0]).stem == "mspipe" or ("-m", "pyg_mspipe") in pairwise(sys.orig_argv)
