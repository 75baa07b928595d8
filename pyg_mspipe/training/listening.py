"""The listeners of a run: the progress bar, the metrics file, the timeline, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from pyg_mspipe.distributed.team import Team
from pyg_mspipe.tasks import Task
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.events import Event, Listener
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.progress_bar import ProgressBar
from pyg_mspipe.training.timeline_file import TimelineFile


class Listening:
    """Tells events to all listeners; inside ``with``, the bar is shown and the files are open.

    Args:
        listeners: The user's listeners, told after the built-in ones.
        config: The run's settings.
        task: Formats its metrics.
        team: The processes of the run.
        folder: The folder of the metrics file; without one none is written.
        console: Where the progress bar is shown.
        log_length: Bytes to keep of an existing metrics file.
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
        log_length: int,
        step: int,
    ) -> None:
        bar = ProgressBar(console, config.plan.sweeps(config.epochs) * config.plan.epochs_per_sweep, task)
        self._log = MetricsLog(folder, length=log_length, tensorboard=config.tensorboard, step=step)
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

    def sync_log(self) -> int:
        """Writes the metrics to disk and returns the length of their file in bytes."""
        return self._log.sync()

    def __enter__(self) -> Listening:
        """Opens the files and shows the bar."""
        for listener in self._built_in:
            self._stack.enter_context(listener)
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files and removes the bar."""
        self._stack.close()
