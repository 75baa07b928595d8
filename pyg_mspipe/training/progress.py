"""What a person at a terminal sees of a run."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyg_mspipe.tasks import LinkMetrics


class TrainingProgress:
    """A progress bar with rate, loss and validation AP; nothing but a line for each epoch where there is no terminal.

    Args:
        console: Where to show it.
        epochs: How many there will be.

    Attributes:
        staleness: How many commits the last batch missed; none before the first.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        self._console = console
        self._epochs = epochs
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
        self._ap = ""
        self.staleness: int | None = None
        self._began = time.perf_counter()
        self._at_start = 0

    def __enter__(self) -> TrainingProgress:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._bar.stop()

    def begin(self, what: str, epoch: int, total: int, done: int = 0) -> None:
        """Starts the bar anew: ``what`` is done to ``total`` events, to ``done`` of them already."""
        self._bar.reset(self._task, total=total, completed=done, description=f"epoch {epoch + 1}/{self._epochs} {what}")
        self._began, self._at_start = time.perf_counter(), done

    def advance(self, events: int, loss: float | None = None) -> None:
        """Moves the bar by ``events``, with the mean loss so far."""
        self._bar.advance(self._task, events)
        done = self._bar.tasks[0].completed - self._at_start
        rate = f"{done / (time.perf_counter() - self._began):,.0f} events/s"
        parts = [rate, "" if loss is None else f"loss {loss:.4f}", self._ap]
        if self.staleness is not None:
            parts.append(f"staleness {self.staleness}")
        self._bar.update(self._task, status="  ".join(part for part in parts if part))

    def epoch_done(self, epoch: int, loss: float, metrics: LinkMetrics, rate: float, best: bool) -> None:
        """Prints the line of an epoch: mean loss, validation metrics and training events per second."""
        self._ap = f"val AP {metrics.ap:.4f}"
        speed = f"{rate:,.0f} events/s" if rate else "trained before"  # by a run that was interrupted then
        self._console.print(
            f"epoch {epoch + 1}/{self._epochs}  loss {loss:.4f}  {self._ap}  AUC {metrics.auc:.4f}  "
            f"MRR@{metrics.num_negatives} {metrics.mrr:.4f}  {speed}{'  best' if best else ''}",
            highlight=False,
            soft_wrap=True,
        )
