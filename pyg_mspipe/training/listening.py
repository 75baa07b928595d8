"""The listeners of a run: the progress bar, the metrics file, the timeline, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from pyg_mspipe.distributed.team import Team
from pyg_mspipe.tasks import Task
from pyg_mspipe.timeline.trace import TraceWriter
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.events import Event, Listener, PartBegun, StagesDone
from pyg_mspipe.training.metrics_log import LogMark, MetricsLog
from pyg_mspipe.training.progress_bar import ProgressBar


class Listening:
    """Tells events to all listeners; inside ``with``, the bar is shown and the files are open.

    Args:
        listeners: The user's listeners, told after the built-in ones.
        config: The run's settings.
        task: Formats its metrics.
        team: The processes of the run.
        folder: The folder of the metrics file; without one none is written.
        console: Where the progress bar is shown.
        log: What to keep of an existing metrics file.
        step: The training step with which the run continues.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        config: TrainConfig,
        task: Task,
        team: Team,
        folder: Path | None,
        console: Console,
        log: LogMark,
        step: int,
    ) -> None:
        bar = ProgressBar(console, config.plan.sweeps(config.epochs) * config.plan.epochs_per_sweep, task)
        self._log = MetricsLog(folder, kept=log, tensorboard=config.tensorboard, step=step)
        self._built_in: list[ProgressBar | MetricsLog | TimelineFile] = [bar, self._log]
        if config.timeline and step == 0:
            path = Path(config.timeline)
            if team.rank:
                path = path.with_name(f"{path.stem}.rank{team.rank}{path.suffix}")
            self._built_in.append(TimelineFile(path, f"staleness {config.staleness}{team.label}"))
        self._all: list[Listener] = [*self._built_in, *listeners]
        self._stack = ExitStack()

    def __call__(self, event: Event) -> None:
        """Tells an event to all listeners, one after the other."""
        for listener in self._all:
            listener(event)

    def sync_log(self) -> LogMark:
        """Writes the metrics to disk and returns the end of their file."""
        return self._log.sync()

    def __enter__(self) -> Listening:
        """Opens the files and shows the bar."""
        for listener in self._built_in:
            self._stack.enter_context(listener)
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files and removes the bar."""
        self._stack.close()


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
