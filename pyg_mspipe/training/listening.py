"""Who is told the events of a run: the progress bar, the metrics file, the timeline, and listeners of the user's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from rich.console import Console

from pyg_mspipe.distributed import ParallelPlan
from pyg_mspipe.distributed.team import Team
from pyg_mspipe.tasks import Task
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.events import Event, Listener
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.progress import TrainingProgress
from pyg_mspipe.training.timeline_file import TimelineFile


class Listening:
    """Tells events to all listeners, and has the files of the built-in ones open.

    Args:
        listeners: Of the user's, told after the built-in ones.
        config: Of the run.
        task: Knows how its metrics are shown.
        team: The processes of the run.
        folder: Of the metrics file; without one none is written.
        console: Of the progress bar.
        log_length: Bytes to keep of a metrics file that is there.
        step: The training step at which the run goes on.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        config: TrainConfig,
        task: Task,
        team: Team,
        folder: Path | None,
        console: Console,
        log_length: int,
        step: int,
    ) -> None:
        at_once = ParallelPlan.parse(config.parallel).epochs_per_sweep
        self._view = TrainingProgress(console, math.ceil(config.epochs / at_once) * at_once, task)
        self._log = MetricsLog(folder, length=log_length, tensorboard=config.tensorboard, step=step)
        self._timeline: list[TimelineFile] = []
        if config.timeline and step == 0:
            path = Path(config.timeline)
            if team.rank:
                path = path.with_name(f"{path.stem}.rank{team.rank}{path.suffix}")
            self._timeline.append(TimelineFile(path, f"staleness {config.staleness}{team.label}"))
        self._all: list[Listener] = [self._view, self._log, *self._timeline, *listeners]
        self._stack = ExitStack()

    def __call__(self, event: Event) -> None:
        """Tells an event to all, one after the other."""
        for listener in self._all:
            listener(event)

    def sync_log(self) -> int:
        """Brings the metrics to disk and returns the length of their file in bytes."""
        return self._log.sync()

    def __enter__(self) -> Listening:
        """Opens the files and shows the bar."""
        self._stack.enter_context(self._view)
        self._stack.enter_context(self._log)
        for timeline in self._timeline:
            self._stack.enter_context(timeline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files and removes the bar."""
        self._stack.close()
