"""CUDA streams of stages: each stage's thread works on its own. On a CPU all of this does nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pyg_mspipe.pipeline.record import BatchRecord


class StageStreams:
    """The CUDA streams of a device's stages, one for each, pass after pass: memory that a stream had is its again.

    Args:
        device: Where training computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: dict[str, torch.cuda.Stream] = {}

    def stream(self, stage: str, after: torch.cuda.Event | None) -> StageStream:
        """Returns the stream of a stage's thread.

        Args:
            stage: Which one.
            after: What must be done before anything more on the stream.
        """
        stream = self.own(stage)
        if stream is not None and after is not None:
            stream.wait_event(after)
        return StageStream(stream)

    def own(self, stage: str) -> torch.cuda.Stream | None:
        """Returns the stream of a stage; none on a CPU.

        Args:
            stage: Which one.
        """
        if self._device.type != "cuda":
            return None
        if not self._streams:
            # One after the other: torch deals out few streams in turns, and these must be different ones.
            self._streams = {name: torch.cuda.Stream(self._device) for name in ("sample", "copy", "update", "train")}
        return self._streams[stage]


class StageStream:
    """The CUDA stream of a stage's thread.

    Args:
        stream: The stream; none on a CPU.
    """

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self.stream = stream

    @contextmanager
    def work(self, after: torch.cuda.Event | None = None) -> Iterator[None]:
        """Launches on the stream what is launched inside.

        Args:
            after: What must be done before.
        """
        if self.stream is None:
            yield
            return
        with torch.cuda.stream(self.stream):
            if after is not None:
                self.stream.wait_event(after)
            yield


def settle(device: torch.device) -> None:
    """Waits on the host until what was launched on the current stream is done.

    A stage's thread waits at its end, so that what it hands on is complete and the time it took its true time; it
    sleeps meanwhile.
    """
    if device.type == "cuda":
        done = torch.cuda.Event(blocking=True)
        done.record(torch.cuda.current_stream(device))
        done.synchronize()


def mark(device: torch.device) -> torch.cuda.Event | None:
    """Returns an event that is over once what was launched so far on the current stream is done; none on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def keep_for(stream: StageStream | None, tensors: Iterable[Tensor]) -> None:
    """Keeps CUDA tensors that another stream allocated from being reused before a stream is done with them.

    Args:
        stream: Who uses them; none is the current stream.
        tensors: On any device.
    """
    for x in tensors:
        if x.is_cuda:
            used = torch.cuda.current_stream(x.device) if stream is None else stream.stream
            assert used is not None
            x.record_stream(used)


class TrainingTimes:
    """When training a batch began, had its new rows, and was done, as the device saw it.

    A GPU is still at work when its launches have returned, so there the times are known some batches later.

    Args:
        device: Where training computes.
        now: Gives the host's time, in seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float]) -> None:
        self._device = device
        self._now = now
        self._open: list[torch.cuda.Event | None] = []
        self._closed: deque[tuple[BatchRecord, list[torch.cuda.Event | None]]] = deque()

    def begin(self, record: BatchRecord) -> None:
        """Training of a batch begins."""
        record.begin["train"] = self._now()
        self._open = [mark(self._device)]

    def rows(self, record: BatchRecord) -> torch.cuda.Event | None:
        """Its new rows are there, or on a GPU once the event returned is over."""
        record.rows_at = self._now()
        self._open.append(mark(self._device))
        return self._open[-1]

    def end(self, record: BatchRecord) -> None:
        """All its work has been done, or launched."""
        self._open.append(mark(self._device))
        self._closed.append((record, self._open))

    def wait(self) -> None:
        """Waits on the host until the last batch is done, so that all are known."""
        last = self._closed[-1][1][-1] if self._closed else None
        if last is not None:
            last.synchronize()

    def known(self) -> Iterator[BatchRecord]:
        """Yields the batches whose end is known by now, in order; their records then have it."""
        while self._closed:
            record, events = self._closed[0]
            first, last = events[0], events[-1]
            if first is None or last is None:
                record.finish["train"] = self._now()
            elif last.query():
                record.finish["train"] = record.begin["train"] + first.elapsed_time(last) / 1000
                if record.rows_at is not None and events[1] is not None:
                    record.rows_at = record.begin["train"] + first.elapsed_time(events[1]) / 1000
            else:
                return
            self._closed.popleft()
            yield record
