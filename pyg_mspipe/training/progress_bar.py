"""The progress bar of a run on a terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyg_mspipe.tasks import Task
from pyg_mspipe.training.events import Advanced, EpochDone, Event, PartBegun, StagesDone


class ProgressBar:
    """Listens to a trainer and shows a progress bar with rate, loss and the validation metric.

    Without a terminal it prints only one line for each epoch.

    Args:
        console: Where to show the bar.
        epochs: How many epochs the run has.
        task: Formats its metrics; not needed if nothing is validated.
    """

    def __init__(self, console: Console, epochs: int, task: Task | None = None) -> None:
        self._console = console
        self._epochs = epochs
        self._shown = task
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, status="")
        self._validated = ""
        self._staleness: int | None = None
        self._began = time.perf_counter()
        self._at_start = 0

    def __enter__(self) -> ProgressBar:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the bar."""
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Shows what an event says."""
        match event:
            case PartBegun():
                self._begin(event)
            case Advanced():
                self._advance(event)
            case StagesDone():
                self._staleness = event.record.staleness
            case EpochDone():
                self._epoch_done(event)

    def _begin(self, event: PartBegun) -> None:
        """Restarts the bar for a pass."""
        description = f"epoch {event.epoch + 1}/{self._epochs} {event.part}"
        self._bar.reset(self._task, total=event.total, completed=event.done, description=description)
        self._began, self._at_start = time.perf_counter(), event.done

    def _advance(self, event: Advanced) -> None:
        """Moves the bar, with the mean loss so far."""
        self._bar.advance(self._task, event.events)
        done = self._bar.tasks[0].completed - self._at_start
        rate = f"{done / (time.perf_counter() - self._began):,.0f} events/s"
        parts = [rate, "" if event.loss is None else f"loss {event.loss:.4f}", self._validated]
        if self._staleness is not None:
            parts.append(f"staleness {self._staleness}")
        self._bar.update(self._task, status="  ".join(part for part in parts if part))

    def _epoch_done(self, event: EpochDone) -> None:
        """Prints the line of an epoch: mean loss, validation metrics and training events per second."""
        task = self._shown
        assert task is not None
        self._validated = f"val {task.best_label} {getattr(event.metrics, task.best):.4f}"
        speed = f"{event.rate:,.0f} events/s" if event.rate else "trained before"  # by a run that was interrupted then
        self._console.print(
            f"epoch {event.epoch + 1}/{self._epochs}  loss {event.loss:.4f}  val {task.line(event.metrics)}  {speed}"
            f"{'  best' if event.best else ''}",
            highlight=False,
            soft_wrap=True,
        )
