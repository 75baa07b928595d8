"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

STAGES = ("load", "sample", "gather", "memory", "embedding", "update", "backward", "optimizer")
"""The stages of a step, in the order of PyG's example.

- load: slice the batch, draw negatives, find its unique nodes
- sample: their neighbours, and keeping the sampler up to date
- gather: times and features of the sampled events
- memory: messages and memory updater, forward
- embedding: attention, link predictor and loss, forward
- update: the memory update
- backward
- optimizer: zeroing gradients, Adam, detaching the memory
"""

Stage = Callable[[str], AbstractContextManager[None]]
"""Wraps a part of the step: ``with stage("sample"): ...``."""


def untimed(name: str) -> AbstractContextManager[None]:
    """Returns a context that does nothing, for passes whose throughput is measured."""
    return nullcontext()


class StageTimer:
    """Sums the time of each stage; the time of a stage within another counts for the inner one alone.

    Attributes:
        seconds: For each of ``STAGES``, its time so far.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time until the context is left to a stage."""
        self._credit()
        self._open.append(name)
        yield
        self._credit()
        self._open.pop()

    def _credit(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
