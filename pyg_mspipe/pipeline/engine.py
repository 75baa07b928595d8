"""The engine: runs stages 1, 2, 3 and 5 in threads beside training, and hands batches over in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Generic, NoReturn

import torch
from threadpoolctl import threadpool_limits

from pyg_mspipe.memory import Commit, MemoryRows, TGNMemory
from pyg_mspipe.memory.forwarding import count_missed, forward_commit
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.record import Stage as StageName
from pyg_mspipe.pipeline.scheduler import Progress, Scheduler, Staleness
from pyg_mspipe.pipeline.stages import B, BatchSource, InFlight, Stage, StateVersion, check_order, default_stages
from pyg_mspipe.pipeline.streams import StageStream, TrainingTimes, keep_for


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


class PipelineEngine(Generic[B]):
    """Iterates over the batches of one pass, prepared ahead, while the memory is trained.

    What the consumer does with a batch, from getting it to asking for the next, is stage 4. In it the memory's
    ``forward`` takes the rows that were fetched and ``update_state`` hands over the commit. Whichever way the iteration
    ends, all commits handed over are applied, in order and each once, and no thread is left.

    Args:
        source: Of the batches.
        memory: In training mode it is read and written in the order that ``staleness`` allows.
        staleness: ``"sequential"``, ``"exact"``, ``"minimal"`` or a fixed bound.
        epoch: Which pass over the stream this is.
        first: The batch to begin with; the memory is at its version.
        prefetch: How many batches may be prepared before the one in training is done.
        estimates: Of the stages' durations, to go on with those of the pass before.
        stages: Instead of :func:`default_stages`.
        on_record: Called with each batch's record when its commit is applied, in order, by the consumer's thread.

    Raises:
        ValueError: If the stages stand in a wrong order, or ``prefetch`` is below 1.
    """

    def __init__(
        self,
        source: BatchSource[B],
        memory: TGNMemory,
        *,
        staleness: Staleness = "exact",
        epoch: int = 0,
        first: int = 0,
        prefetch: int = 3,
        estimates: RunningDurations | None = None,
        stages: Sequence[Stage[B]] | None = None,
        on_record: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}; give at least 1")
        stages = default_stages(source, memory) if stages is None else stages
        check_order(stages)
        self._stages = {stage.name: stage for stage in stages}
        self.source = source
        self.memory = memory
        self.scheduler = Scheduler(staleness, estimates)
        self.staleness = staleness
        self.epoch = epoch
        self.first = first
        self.prefetch = prefetch
        self._on_record = on_record or (lambda record: None)
        self._device = memory.device
        self._start = time.perf_counter()
        self._times = TrainingTimes(self._device, self._now)

        # Held to look at or change anything below; each condition has one kind of waiter.
        self._lock = threading.Lock()
        self._may_sample, self._may_copy, self._may_train, self._may_update = (
            threading.Condition(self._lock) for _ in range(4)
        )
        self._sampled: deque[InFlight[B]] = deque()
        self._fetched: deque[InFlight[B]] = deque()
        self._to_commit: deque[tuple[InFlight[B], torch.cuda.Event | None]] = deque()
        self._state = StateVersion(first, self._device)
        self._begun = first
        self._awaited: int | None = None
        self._update_begin: float | None = None
        self._failure: BaseException | None = None
        self._closing = False

        # The consumer's own.
        self._current: InFlight[B] | None = None
        self._recent: deque[InFlight[B]] = deque()  # trained, and missed by batches to come
        self._unreported: deque[InFlight[B]] = deque()

    def __len__(self) -> int:
        """Returns the number of batches to come."""
        return len(self.source) - self.first

    def __iter__(self) -> Generator[InFlight[B], None, None]:
        """Yields each batch, to be trained before the next is asked for.

        Raises:
            PipelineError: If a stage failed.
        """
        run = self._in_line if self.staleness == "sequential" else self._threaded
        with self.memory.pipelined(self):
            yield from run()

    # What the memory sees of the engine.

    def fetched(self) -> MemoryRows | None:
        """Returns the rows of the batch in training."""
        return None if self._current is None else self._current.rows

    def commit(self, commit: Commit) -> None:
        """Takes the memory update of the batch in training.

        Raises:
            RuntimeError: If no batch is in training, or it has been updated before.
        """
        flight = self._current
        if flight is None or flight.commit is not None:
            what = "without a batch" if flight is None else f"twice for batch {flight.index}"
            raise RuntimeError(f"update_state was called {what}; call it once for each batch of the loader")
        flight.commit = commit
        self._hand_over(flight, self._times.rows(flight.record))

    def drain(self) -> None:
        """Waits until all commits that were handed over are applied.

        Raises:
            PipelineError: If a stage failed.
        """
        with self._lock:
            self._may_train.wait_for(lambda: self._failure is not None or not self._updating())
        if self._updating():
            self._raise_failure()

    # Stage by stage in the consumer's thread.

    def _in_line(self) -> Generator[InFlight[B], None, None]:
        for index in range(self.first, len(self.source)):
            flight = self._new_flight(index)
            for name in ("sample", "gather", "fetch"):
                self._work(name, flight)
            flight.record.fetched = index
            self._begin_training(flight)
            yield flight
            self._end_training(flight)

    # With a thread for each of sampling, copying (gather and fetch) and updating.

    def _threaded(self) -> Generator[InFlight[B], None, None]:
        loops = {"sample": self._sample, "copy": self._copy, "update": self._update}
        threads = [
            threading.Thread(target=self._run, args=(loop,), name=f"mspipe-{name}", daemon=True)
            for name, loop in loops.items()
        ]
        for thread in threads:
            thread.start()
        try:
            for index in range(self.first, len(self.source)):
                flight = self._take(index)
                self._begin_training(flight)
                yield flight
                self._end_training(flight)
            self.drain()
            self._report()
        finally:
            with self._lock:
                self._closing = True
                self._wake_all()
            for thread in threads:
                thread.join()
            self._current = None
            if self._updating():
                self._raise_failure()

    def _run(self, loop: Callable[[], None]) -> None:
        """Runs a thread's loop, and keeps what it failed with for the consumer."""
        torch.get_num_threads()  # torch sets a thread's number when it first asks for it
        # Gathers and small sorts gain nothing from more threads, and training needs them.
        with threadpool_limits(1, user_api="openmp"), torch.no_grad():
            try:
                loop()
            except _Stopped:
                pass
            except BaseException as error:
                with self._lock:
                    self._failure = self._failure or error
                    self._wake_all()

    def _sample(self) -> None:
        stream = StageStream(self._device)
        for index in range(self.first, len(self.source)):
            with self._lock:
                while index >= self._begun + self.prefetch:
                    self._wait(self._may_sample)
            flight = self._new_flight(index)
            with stream.work():
                self._work("sample", flight)
            with self._lock:
                self._sampled.append(flight)
                self._may_copy.notify()

    def _copy(self) -> None:
        stream = StageStream(self._device)
        for _ in range(self.first, len(self.source)):
            with self._lock:
                while not self._sampled:
                    self._wait(self._may_copy)
                flight = self._sampled.popleft()
            with stream.work():
                self._work("gather", flight)
            with self._lock:
                self._await_fetch(flight)
            flight.record.fetched = self._state.version
            with stream.work():
                self._work("fetch", flight)
            with self._lock:
                self._fetched.append(flight)
                self._may_train.notify()

    def _update(self) -> None:
        stream = StageStream(self._device)
        while True:
            with self._lock:
                while not self._to_commit:
                    # Whatever else fails, what was trained is committed.
                    if self._closing:
                        return
                    self._may_update.wait()
                flight, ready = self._to_commit[0]
                self._update_begin = self._now()
            with stream.work(ready):
                if flight.commit is not None:
                    keep_for(stream, flight.commit.tensors())
                self._work("update", flight)
            with self._lock:
                self._state.version = flight.index + 1
                self._update_begin = None
                self._to_commit.popleft()
                self._may_copy.notify()
                self._may_train.notify()

    def _await_fetch(self, flight: InFlight[B]) -> None:
        """Waits until the scheduler's decision lets the batch be fetched. Holds the lock."""
        decision = self.scheduler.decide(flight.index, self._progress())
        flight.record.bound = decision.bound
        while self._state.version < decision.expect:
            left = None
            if self._state.version >= decision.wait_for:
                left = decision.fetch_at - self._now()
                if left <= 0 or self._awaited == flight.index:
                    return
            self._wait(self._may_copy, left)

    # The consumer's side.

    def _take(self, index: int) -> InFlight[B]:
        """Returns the next batch, as it is to be trained."""
        with self._lock:
            self._awaited = index
            self._may_copy.notify()
            self._may_train.wait_for(lambda: self._failure is not None or bool(self._fetched))
            self._awaited = None
            if self._failure is not None:
                self._raise_failure()
            flight = self._fetched.popleft()
        record = flight.record
        while self._recent and self._recent[0].index < record.fetched:
            self._recent.popleft()
        record.staleness = index - record.fetched
        if flight.rows is not None:
            keep_for(None, flight.rows.tensors())
        if self.staleness == "exact":
            self._forward(flight)
        elif record.staleness and flight.rows is not None and self.memory.mitigation is not None:
            commits = [missed.commit for missed in self._recent if missed.commit is not None]
            flight.rows = replace(flight.rows, missed=count_missed(flight.rows.n_id, commits))
        return flight

    def _forward(self, flight: InFlight[B]) -> None:
        """Brings the rows to the version that sequential training reads."""
        for missed in self._recent:
            if flight.rows is not None and missed.commit is not None:
                flight.rows = forward_commit(flight.rows, missed.commit, self.memory.tie_rule)
        flight.record.staleness = 0

    def _begin_training(self, flight: InFlight[B]) -> None:
        with self._lock:
            self._current = flight
            self._begun = flight.index + 1
            self._times.begin(flight.record)
            self._may_sample.notify()

    def _end_training(self, flight: InFlight[B]) -> None:
        self._times.end(flight.record)
        if flight.commit is None:
            self._hand_over(flight, None)
        with self._lock:
            self._current = None
            for record in self._times.known():
                self.scheduler.estimates.observe("train", record.duration("train"))
                if record.rows_at is not None:
                    self.scheduler.estimates.observe("rows", record.rows_at - record.begin["train"])
        if self.staleness != "sequential":
            self._recent.append(flight)
        self._unreported.append(flight)
        self._report()

    def _hand_over(self, flight: InFlight[B], ready: torch.cuda.Event | None) -> None:
        """Sends a batch on to the update stage."""
        if self.staleness == "sequential":
            self._work("update", flight)
            return
        with self._lock:
            self._to_commit.append((flight, ready))
            self._may_update.notify()

    def _report(self) -> None:
        while self._unreported:
            record = self._unreported[0].record
            if not {"train", "update"} <= record.finish.keys():
                return
            self._unreported.popleft()
            self._on_record(record)

    # Small parts.

    def _new_flight(self, index: int) -> InFlight[B]:
        return InFlight(BatchRecord(index), self._state, self.epoch, self.source.events_of(index))

    def _work(self, name: StageName, flight: InFlight[B]) -> None:
        """Runs a stage on a batch and takes its time."""
        record = flight.record
        record.begin[name] = self._now()
        try:
            self._stages[name](flight)
        except Exception as error:
            raise PipelineError(name, flight.index, error) from error
        finish = self._now()
        with self._lock:
            record.finish[name] = finish
            self.scheduler.estimates.observe(name, finish - record.begin[name])

    def _progress(self) -> Progress:
        current = None if self._current is None else self._current.record
        return Progress(
            now=self._now(),
            training=self._begun if current is None else current.index,
            train_begin=None if current is None else current.begin["train"],
            rows_at=None if current is None else current.rows_at,
            version=self._state.version,
            update_begin=self._update_begin,
        )

    def _wait(self, condition: threading.Condition, timeout: float | None = None) -> None:
        """Waits for a change, in a stage's thread."""
        if not self._closing and self._failure is None:
            condition.wait(timeout)
        if self._closing or self._failure is not None:
            raise _Stopped

    def _wake_all(self) -> None:
        for condition in (self._may_sample, self._may_copy, self._may_train, self._may_update):
            condition.notify_all()

    def _updating(self) -> bool:
        return bool(self._to_commit)

    def _raise_failure(self) -> NoReturn:
        assert self._failure is not None
        raise self._failure

    def _now(self) -> float:
        return time.perf_counter() - self._start


class _Stopped(Exception):  # noqa: N818 - no error
    """Ends a stage's thread."""
