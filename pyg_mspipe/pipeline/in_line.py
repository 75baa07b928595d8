"""One stage after the other, in the thread that trains."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Generic

import torch

from pyg_mspipe.memory.whole import whole
from pyg_mspipe.pipeline.stages import B, InFlight
from pyg_mspipe.pipeline.work import StageWork


class InLine(Generic[B]):
    """Runs a pass's stages where nothing is to be gained from threads, or none are wanted.

    Memory is as stale as ``bound`` allows, on every batch: a commit is applied when the batch that must see it is next.

    Args:
        work: Runs the stages.
        bound: How many commits each batch misses.
        at_once: Whether commits are applied within training, when they are handed over, as others wait for them.
    """

    def __init__(self, work: StageWork[B], bound: int = 0, *, at_once: bool = False) -> None:
        self._work = work
        work.apart = False
        self._bound = bound
        self._at_once = at_once
        self._to_commit: deque[InFlight[B]] = deque()
        self._failed = False
        # Others may look at the memory meanwhile, for which all commits are applied.
        self._lock = threading.RLock()

    def take(self, index: int) -> InFlight[B]:
        """Returns the next batch, fetched.

        Raises:
            PipelineError: If a stage failed.
        """
        self._apply(before=index - self._bound)
        flight = self._work.new_flight(index)
        flight.record.bound = self._bound
        for name in ("sample", "gather", "fetch"):
            self._work(name, flight)
        return flight

    def begin(self, flight: InFlight[B]) -> None:
        """Takes note that a batch is in training."""

    def commit(self, flight: InFlight[B], commit: Any, ready: torch.cuda.Event | None) -> None:
        """Takes a batch's memory update, if it has one."""
        with self._lock:
            flight.commit = commit
            self._to_commit.append(flight)
        if self._at_once:
            self.drain()

    def drain(self) -> None:
        """Applies all commits that were handed over.

        Raises:
            PipelineError: If one of them fails.
        """
        with self._lock:
            while self._to_commit:
                self._apply(before=self._to_commit[0].index + 1)

    def close(self) -> None:
        """Applies what is left, if none failed before."""
        if not self._failed:
            self.drain()

    def _apply(self, before: int) -> None:
        with self._lock:
            while self._to_commit and self._to_commit[0].index < before:
                with whole():
                    try:
                        self._work("update", self._to_commit[0])
                    except BaseException:
                        self._failed = True
                        raise
                    self._to_commit.popleft()
