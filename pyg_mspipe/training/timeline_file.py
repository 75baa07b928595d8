"""The timeline of a run's first epoch, written as a trace."""

from __future__ import annotations

from pathlib import Path

from pyg_mspipe.timeline.trace import TraceWriter
from pyg_mspipe.training.events import Event, PartBegun, StagesDone


class TimelineFile:
    """Listens to a trainer and writes the trace of its first pass over the training events.

    Args:
        path: The trace's file.
        title: What the trace shows.
    """

    def __init__(self, path: Path, title: str) -> None:
        self._writer: TraceWriter | None = TraceWriter(path, title)
        self._last = -1

    def __enter__(self) -> TimelineFile:
        """Opens the file."""
        assert self._writer is not None
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Completes the file."""
        self._close()

    def __call__(self, event: Event) -> None:
        """Adds a batch that the pipeline is done with."""
        if self._writer is None:
            return
        if isinstance(event, StagesDone) and event.record.index > self._last:
            self._last = event.record.index
            self._writer.add(event.record)
        elif isinstance(event, StagesDone) or (isinstance(event, PartBegun) and event.part == "validate"):
            self._close()  # another pass

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)
