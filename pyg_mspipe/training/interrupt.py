"""Ctrl-C between two batches, never within one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; its state is saved."""


class StopRequest:
    """Whether the user asked to stop: ``made`` is true after the first signal."""

    def __init__(self) -> None:
        self.made = False


@contextmanager
def interruptible() -> Iterator[StopRequest]:
    """Yields a request that the first Ctrl-C or SIGTERM makes; a second one interrupts at once.

    Under torchrun a second one does nothing: torchrun passes on each Ctrl-C, which its processes have already received
    from the terminal, and kills those that take too long.

    Only the main thread receives signals; in another thread the request is never made.
    """
    request = StopRequest()
    twice_is_now = "TORCHELASTIC_RUN_ID" not in os.environ
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        if request.made and twice_is_now:
            raise KeyboardInterrupt
        request.made = True

    # A handler that Python does not know, of a program around it, could not be put back.
    known = [which for which in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(which) is not None]
    before = {which: signal.signal(which, ask) for which in known}
    try:
        yield request
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
