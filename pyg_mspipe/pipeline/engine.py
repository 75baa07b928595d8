"""The engine: hands the batches of a pass over in order, prepared beside training where that gains time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Generic

import torch

from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.in_line import InLine
from pyg_mspipe.pipeline.overlap import TRIAL, free_cores, hides_waiting
from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.scheduler import Scheduler, Staleness
from pyg_mspipe.pipeline.stages import B, BatchSource, InFlight
from pyg_mspipe.pipeline.streams import StageStreams, TrainingTimes, keep_for
from pyg_mspipe.pipeline.threads import StageThreads
from pyg_mspipe.pipeline.work import StageWork


class PipelineEngine(Generic[B]):
    """Iterates over the batches of one pass, prepared ahead, while the memory is trained.

    What the consumer does with a batch, from getting it to asking for the next, is stage 4. In it the batch's rows are
    used and its commit is handed over, by :meth:`commit`. Whichever way the iteration ends, all commits handed over are
    applied, in order and each once, and no thread is left.

    Args:
        source: The source of the batches.
        state: The state of node memory; it is read and written in the order that ``staleness`` allows.
        device: Where training computes.
        staleness: ``"sequential"``, ``"exact"``, ``"minimal"`` or a fixed bound.
        epoch: Which pass over the stream this is.
        first: The batch to begin with; the memory is at its version.
        prefetch: How many batches may be prepared before the one in training is done.
        overlap: Whether stages run in threads beside training; ``"sequential"`` never does. By default they do if there
            is a core that training leaves idle, or a GPU to train, and else if in the first batches the stages have
            waited, for a disk for instance, long enough to gain from it.
        estimates: Estimates of the stages' durations, from the pass before.
        streams: The CUDA streams of the stages, from the pass before.
        on_record: Called with each batch's record when its commit is applied, in order, by the consumer's thread.

    Attributes:
        overlap: Whether stages run in threads; none until that is decided.
        asked: Whether anybody has asked for rows that were fetched.

    Raises:
        ValueError: If ``prefetch`` is below 1.
    """

    def __init__(
        self,
        source: BatchSource[B],
        state: NodeState,
        *,
        device: torch.device,
        staleness: Staleness = "exact",
        epoch: int = 0,
        first: int = 0,
        prefetch: int = 3,
        overlap: bool | None = None,
        estimates: RunningDurations | None = None,
        streams: StageStreams | None = None,
        on_record: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}; give at least 1")
        self.source = source
        self.state = state
        self.scheduler = Scheduler(staleness, estimates)
        self.staleness = staleness
        self.first = first
        self.prefetch = prefetch
        self.overlap = overlap if staleness != "sequential" else False
        self._streams = streams or StageStreams(device)
        self._on_record = on_record or (lambda record: None)
        catches_up = staleness in ("sequential", "exact")
        measured = self.scheduler.estimates
        self._work = StageWork(source, state, device, measured, catches_up=catches_up, epoch=epoch, first=first)
        self._times = TrainingTimes(device, self._work.now)
        self._runner: InLine[B] | StageThreads[B] | None = None
        self._current: InFlight[B] | None = None
        self._recent: deque[InFlight[B]] = deque()  # trained, and missed by batches to come
        self._unreported: deque[InFlight[B]] = deque()
        self._begun = False
        self._process = os.getpid()
        self.asked = False

    def __len__(self) -> int:
        """Returns the number of batches to come."""
        return len(self.source) - self.first

    def __iter__(self) -> Generator[InFlight[B], None, None]:
        """Yields each batch, to be trained before the next is asked for.

        Raises:
            PipelineError: If a stage failed.
            RuntimeError: If this is not the first time, or the memory is in use by another pipeline.
        """
        if self._begun:
            raise RuntimeError("an engine goes through its batches once; make another for another pass")
        self._begun = True
        with self.state.pipelined(self):
            if self.overlap is None and (self._work.device.type != "cpu" or free_cores()):
                self.overlap = True
            batches = range(self.first, len(self.source))
            if self.overlap is None:
                tried: list[BatchRecord] = []
                self._work.tries = True
                yield from self._run(batches[:TRIAL], tried)
                self._work.tries = False
                if len(batches) <= TRIAL:
                    return
                self.overlap = hides_waiting(tried)
                batches = batches[TRIAL:]
            yield from self._run(batches)

    # What the memory sees of the engine.

    def fetched(self) -> Any:
        """Returns the rows of the batch in training; none once its update is handed over, which they do not have."""
        flight = self._current
        self.asked = True
        return None if flight is None or flight.commit is not None else flight.rows

    def commit(self, commit: Any) -> None:
        """Takes ``commit``, the memory update of the batch in training.

        Raises:
            RuntimeError: If no batch is in training, or it has been updated before.
        """
        flight = self._current
        if flight is None or flight.commit is not None:
            what = "without a batch" if flight is None else f"twice for batch {flight.index}"
            raise RuntimeError(f"update_state was called {what}; call it once for each batch of the loader")
        assert self._runner is not None
        self._runner.commit(flight, commit, self._times.rows(flight.record))

    def drain(self) -> None:
        """Waits until all commits that were handed over are applied.

        Raises:
            PipelineError: If a stage failed.
        """
        runner = self._runner
        if runner is not None:
            runner.drain()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Drains, and keeps stages from node memory meanwhile.

        Raises:
            PipelineError: If a stage failed.
        """
        self.drain()
        with self._work.state.still():
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Drains, and keeps stages from node memory meanwhile; rows that were fetched before are not used.

        Raises:
            PipelineError: If a stage failed.
        """
        self.drain()
        with self._work.state.changing():
            yield

    # The consumer's side.

    def _run(self, batches: range, seen: list[BatchRecord] | None = None) -> Generator[InFlight[B], None, None]:
        """Yields some batches, and notes their records."""
        runner: InLine[B] | StageThreads[B]
        if self.overlap:
            runner = StageThreads(self._work, self.scheduler, batches, self.prefetch, self._streams)
        else:
            bound = self.staleness if isinstance(self.staleness, int) else 0
            runner = InLine(self._work, bound, at_once=self.state.shared)
        self._runner = runner
        try:
            with closing(runner):
                for index in batches:
                    flight = runner.take(index)
                    self._count_missed(flight)
                    self._current = flight
                    self._times.begin(flight.record)
                    runner.begin(flight)
                    yield flight
                    self._end_training(flight, runner)
                    if seen is not None:
                        seen.append(flight.record)
                runner.drain()
        finally:
            flight_left = self._current
            if flight_left is not None and flight_left.commit is not None:
                self._times.end(flight_left.record)
                self._unreported.append(flight_left)
            self._current = self._runner = None
            if os.getpid() == self._process:
                self._times.wait()
                self._observe()
                self._report()

    def _count_missed(self, flight: InFlight[B]) -> None:
        """Notes which commits a fetch has missed, and forwards them if it must have missed none."""
        record = flight.record
        while self._recent and self._recent[0].index < record.fetched:
            self._recent.popleft()
        record.staleness = 0 if self.staleness == "exact" else flight.index - record.fetched
        if flight.rows is None:
            return
        if not self._work.state.is_current(flight):
            # The state was changed by others: it is read anew, once all commits are applied.
            flight.rows = None
            record.staleness = 0
            return
        if self._work.device.type == "cuda":
            keep_for(None, flight.rows.tensors())
        commits = [missed.commit for missed in self._recent if missed.commit is not None]
        if self.staleness == "exact":
            flight.rows = self.state.catch_up(flight.rows, commits)
        elif record.staleness and self.state.mitigates:
            flight.rows = self.state.note_missed(flight.rows, commits)

    def _end_training(self, flight: InFlight[B], runner: InLine[B] | StageThreads[B]) -> None:
        self._times.end(flight.record)
        if flight.commit is None:
            runner.commit(flight, None, None)
        self._current = None
        self._recent.append(flight)
        self._unreported.append(flight)
        self._observe()
        self._report()

    def _observe(self) -> None:
        """Takes note of how long training took, where that is known by now."""
        with self._work.lock:
            for record in self._times.known():
                self.scheduler.estimates.observe("train", record.duration("train"))
                if record.rows_at is not None:
                    self.scheduler.estimates.observe("rows", record.rows_at - record.begin["train"])

    def _report(self) -> None:
        while self._unreported:
            record = self._unreported[0].record
            if not {"train", "update"} <= record.finish.keys():
                return
            self._unreported.popleft()
            self._on_record(record)
