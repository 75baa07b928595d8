"""The metrics of a run's parts as a table for people."""

from __future__ import annotations

from rich.table import Table

from pyg_mspipe.tasks import Metrics, Task


def table_of(task: Task, metrics: dict[str, Metrics], title: str) -> Table:
    """Returns a row for each part of the stream, in the columns that the task has.

    Args:
        task: The task.
        metrics: By part.
        title: Stands above the table.
    """
    table = Table(title=title)
    rows = {part: task.columns(each) for part, each in metrics.items()}
    table.add_column("events")
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right")
    for part, columns in rows.items():
        table.add_row(part, *columns.values())
    return table
