"""Runs single stages on single batches, takes their times, and says which one failed."""

from __future__ import annotations

import threading
import time
from typing import Generic

import torch

from pyg_mspipe.data.tensor_tree import tensors_of
from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline import stages
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.no_state import NoState
from pyg_mspipe.pipeline.overlap import busy_clock
from pyg_mspipe.pipeline.record import BatchRecord, StageName
from pyg_mspipe.pipeline.stages import B, BatchSource, InFlight, StateVersion
from pyg_mspipe.pipeline.streams import settle


class PipelineError(RuntimeError):
    """A stage failed. The error itself is the cause.

    Attributes:
        stage: Which one.
        batch: The number of the batch that it worked on.
    """

    def __init__(self, stage: StageName, batch: int, error: BaseException) -> None:
        super().__init__(f"stage {stage}, batch {batch}: {type(error).__name__}: {error}")
        self.stage = stage
        self.batch = batch
        self._error = error

    def __reduce__(self) -> tuple[type[PipelineError], tuple[StageName, int, BaseException]]:
        return type(self), (self.stage, self.batch, self._error)


class StageWork(Generic[B]):
    """What the stages of one pass share, whichever thread they run in.

    Args:
        source: The source of the batches.
        memory: The memory's state.
        device: Where training computes.
        estimates: The estimates of the stages' durations; each measurement is added.
        catches_up: Whether commits that a fetch has missed are made up for before training.
        epoch: Which pass over the stream this is.
        first: The batch to begin with.

    Attributes:
        state: The version of the memory state.
        tries: Whether it is measured what stages wait for.
        apart: Whether stages run in threads, on streams of their own.
        lock: Held to read or add to the estimates, and by whoever has more to guard.
    """

    def __init__(
        self,
        source: BatchSource[B],
        memory: NodeState,
        device: torch.device,
        estimates: RunningDurations,
        *,
        catches_up: bool,
        epoch: int,
        first: int,
    ) -> None:
        self.source = source
        self.device = device
        self.estimates = estimates
        keeps_none = isinstance(memory, NoState)
        self.state = StateVersion(first, torch.device("cpu") if keeps_none else device)
        self.tries = self.apart = False
        self.lock = threading.Lock()
        self._memory = memory
        self._catches_up = catches_up
        self._epoch = epoch
        self._start = time.perf_counter()

    def new_flight(self, index: int) -> InFlight[B]:
        """Returns a batch before its first stage."""
        return InFlight(BatchRecord(index), self.state, self._epoch, self.source.events_of(index))

    def __call__(self, name: StageName, flight: InFlight[B]) -> None:
        """Runs a stage on a batch.

        Raises:
            PipelineError: If it fails.
        """
        record = flight.record
        try:
            self._await_turn(name, flight)
            busy = busy_clock() if self.tries else None
            record.begin[name] = self.now()
            with torch.no_grad():
                self._run(name, flight)
        except Exception as error:
            raise PipelineError(name, flight.index, error) from error
        finish = self.now()
        if busy is not None:
            record.busy[name] = busy()
        with self.lock:
            record.finish[name] = finish
            self.estimates.observe(name, finish - record.begin[name])

    def _await_turn(self, name: StageName, flight: InFlight[B]) -> None:
        """Waits until a stage may touch node memory, which others may use too; waiting is no work."""
        if name == "fetch":
            self._memory.await_fetch(flight.batch)
        elif name == "update" and flight.commit is not None:
            self._memory.await_apply(flight.commit)

    def _run(self, name: StageName, flight: InFlight[B]) -> None:
        if name == "sample":
            stages.sample(self.source, flight)
            first = next(tensors_of(flight.drawn), None)
            if self.apart and first is not None and first.is_cuda:  # as where the stream is there
                settle(self.device)
        elif name == "gather":
            stages.gather(self.source, flight)
            if self.apart:
                settle(self.device)
        elif name == "fetch":
            stages.fetch(self.source, self._memory, flight, catches_up=self._catches_up)
        else:
            stages.update(self._memory, flight)

    def now(self) -> float:
        """Returns the seconds since the start of the pass."""
        return time.perf_counter() - self._start
