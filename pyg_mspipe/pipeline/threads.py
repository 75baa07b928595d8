"""Stages in threads beside training: one samples, one gathers and fetches, one updates."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NoReturn

import torch
from threadpoolctl import threadpool_limits

from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.scheduler import PipelineState, Scheduler
from pyg_mspipe.pipeline.stages import B, InFlight
from pyg_mspipe.pipeline.streams import StageStreams, keep_for, mark
from pyg_mspipe.pipeline.work import StageWork


class StageThreads(Generic[B]):
    """Prepares batches ahead and applies commits, while the consumer trains.

    Batches and commits keep their order, queues are bounded by ``prefetch``. What a thread fails with is raised where
    the consumer next asks for something; what was handed over before is committed nevertheless.

    Args:
        work: Runs the stages.
        scheduler: Decides when a batch is fetched.
        batches: Their numbers.
        prefetch: How many may be prepared before the one in training is done.
        streams: The CUDA streams of the stages.
    """

    def __init__(
        self, work: StageWork[B], scheduler: Scheduler, batches: range, prefetch: int, streams: StageStreams
    ) -> None:
        self._work = work
        work.apart = True
        self._streams = streams
        self._scheduler = scheduler
        self._batches = batches
        self._prefetch = prefetch
        # The stream, its history and node memory may still be on their way to the device.
        self._given = mark(work.device)

        # Held to look at or change anything below; each condition has one kind of waiter, but for _may_train: for that
        # the consumer waits, and any thread that looks at the memory.
        self._lock = work.lock
        self._may_sample, self._may_copy, self._may_train, self._may_update = (
            threading.Condition(self._lock) for _ in range(4)
        )
        self._sampled: deque[InFlight[B]] = deque()
        self._fetched: deque[InFlight[B]] = deque()
        self._to_commit: deque[tuple[InFlight[B], torch.cuda.Event | None]] = deque()
        self._begun = batches.start
        self._current: BatchRecord | None = None
        self._awaited: int | None = None
        self._updating: tuple[int, float] | None = None  # which batch's commit is applied, and since when
        self._failure: BaseException | None = None
        self._process = os.getpid()
        self._closing = False
        loops = {"sample": self._sample, "copy": self._copy, "update": self._update}
        self._threads = [
            threading.Thread(target=self._run, args=(loop,), name=f"mspipe-{name}", daemon=True)
            for name, loop in loops.items()
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.close()
            raise

    # What the consumer calls.

    def take(self, index: int) -> InFlight[B]:
        """Returns the next batch, fetched.

        Raises:
            PipelineError: If a stage failed.
            RuntimeError: In a fork of the process.
        """
        if os.getpid() != self._process:
            raise RuntimeError("a pass that is under way cannot go on in a fork of its process; begin one there")
        with self._lock:
            self._current = None
            self._awaited = index
            self._may_copy.notify()
            self._may_train.wait_for(lambda: self._failure is not None or bool(self._fetched))
            self._awaited = None
            if self._failure is not None:
                self._raise_failure()
            return self._fetched.popleft()

    def begin(self, flight: InFlight[B]) -> None:
        """Takes note that a batch is in training."""
        with self._lock:
            self._current = flight.record
            self._begun = flight.index + 1
            self._may_sample.notify()

    def commit(self, flight: InFlight[B], commit: Any, ready: torch.cuda.Event | None) -> None:
        """Takes a batch's memory update, if it has one; on a GPU it is there when ``ready`` is over."""
        with self._lock:
            flight.commit = commit
            self._to_commit.append((flight, ready))
            self._may_update.notify()

    def drain(self) -> None:
        """Waits until all commits that were handed over are applied.

        Raises:
            PipelineError: If a stage failed.
        """
        with self._lock:
            if not self._to_commit:
                return
            last = self._to_commit[-1][0]
            self._may_train.wait_for(lambda: self._failure is not None or self._work.state.version > last.index)
            if self._work.state.version <= last.index:
                self._raise_failure()

    def close(self) -> None:
        """Ends the threads, once all commits that were handed over are applied.

        Raises:
            PipelineError: If one of them failed.
        """
        if os.getpid() != self._process:
            return  # A fork has no threads to end, and what they held when it was made stays held.
        with self._lock:
            self._closing = True
            for condition in (self._may_sample, self._may_copy, self._may_update):
                condition.notify_all()
        interrupt: BaseException | None = None
        for thread in self._threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt as error:
                    # A thread left alone would go on to write node memory.
                    interrupt = error
        if interrupt is not None:
            raise interrupt
        if self._to_commit:
            self._raise_failure()

    # What the threads do.

    def _run(self, loop: Callable[[], None]) -> None:
        """Runs a thread's loop, and keeps what it failed with for the consumer."""
        torch.get_num_threads()  # torch sets a thread's number when it first asks for it
        # Gathers and small sorts gain nothing from more threads, and training needs them.
        with threadpool_limits(1, user_api="openmp"):
            try:
                loop()
            except _Stopped:
                pass
            except BaseException as error:
                with self._lock:
                    self._failure = self._failure or error
                    for condition in (self._may_sample, self._may_copy, self._may_train, self._may_update):
                        condition.notify_all()

    def _sample(self) -> None:
        stream = self._streams.stream("sample", self._given)
        for index in self._batches:
            with self._lock:
                while index >= self._begun + self._prefetch:
                    self._wait(self._may_sample)
            flight = self._work.new_flight(index)
            with stream.work():
                self._work("sample", flight)
            with self._lock:
                self._sampled.append(flight)
                self._may_copy.notify()

    def _copy(self) -> None:
        stream = self._streams.stream("copy", self._given)
        for _ in self._batches:
            with self._lock:
                while not self._sampled:
                    self._wait(self._may_copy)
                flight = self._sampled.popleft()
            with stream.work():
                self._work("gather", flight)
            with self._lock:
                self._await_fetch(flight)
            with stream.work():
                self._work("fetch", flight)
            with self._lock:
                self._fetched.append(flight)
                self._may_train.notify_all()

    def _update(self) -> None:
        stream = self._streams.stream("update", self._given)
        while True:
            with self._lock:
                while not self._to_commit:
                    # Whatever else fails, what was trained is committed.
                    if self._closing:
                        return
                    self._may_update.wait()
                flight, ready = self._to_commit[0]
                self._updating = flight.index, self._work.now()
            with stream.work(ready):
                if flight.commit is not None:
                    keep_for(stream, flight.commit.tensors())
                self._work("update", flight)
            with self._lock:
                self._updating = None
                self._to_commit.popleft()
                self._may_copy.notify()
                self._may_train.notify_all()

    def _await_fetch(self, flight: InFlight[B]) -> None:
        """Waits until the scheduler's decision lets the batch be fetched. Holds the lock."""
        decision = self._scheduler.decide(flight.index, self._progress())
        flight.record.bound = decision.bound
        while self._work.state.version < decision.expect:
            left = None
            if self._work.state.version >= decision.wait_for:
                left = decision.fetch_at - self._work.now()
                if left <= 0 or self._awaited == flight.index:
                    return
            self._wait(self._may_copy, left)

    def _progress(self) -> PipelineState:
        current, version = self._current, self._work.state.version
        # A commit that counts already may still be on its way out of the stage.
        updating = self._updating if self._updating is not None and self._updating[0] == version else None
        return PipelineState(
            now=self._work.now(),
            training=self._begun if current is None else current.index,
            train_begin=None if current is None else current.begin["train"],
            rows_at=None if current is None else current.rows_at,
            version=version,
            update_begin=None if updating is None else updating[1],
        )

    def _wait(self, condition: threading.Condition, timeout: float | None = None) -> None:
        """Waits for a change, in a stage's thread."""
        if not self._closing and self._failure is None:
            condition.wait(timeout)
        if self._closing or self._failure is not None:
            raise _Stopped

    def _raise_failure(self) -> NoReturn:
        assert self._failure is not None
        raise self._failure


class _Stopped(Exception):  # noqa: N818 - no error
    """Ends a stage's thread."""
