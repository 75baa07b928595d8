"""Changes that are made whole or not at all, whatever signal comes meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


@contextmanager
def whole() -> Iterator[None]:
    """Lets what is done inside come to its end: what signals do, such as raise KeyboardInterrupt, is done after it.

    Python handles signals in the main thread alone; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kept: list[tuple[int, Callable[..., Any]]] = []
    try:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                kept.append((number, handler))
                signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        _restore(kept)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def _restore(kept: Sequence[tuple[int, Callable[..., Any]]]) -> None:
    """Sets handlers again, all of them even if one that is set already raises."""
    if kept:
        try:
            _restore(kept[1:])
        finally:
            signal.signal(*kept[0])
