"""The metrics of a run's parts as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.table import Table

from pyg_mspipe.tasks import Metrics, Task

Rows = Mapping[tuple[str, ...], Mapping[str, str]]
"""What stands in each row of a table under each heading, by the row's names."""


def tables_of(task: Task, metrics: Mapping[str, Metrics], title: str) -> Iterator[Table]:
    """Yields a table with a row for each part of the stream, and one of their groups where the task knows any.

    Args:
        task: The task.
        metrics: By part.
        title: Stands above the first table.
    """
    yield table_of({(part,): task.columns(each) for part, each in metrics.items()}, ["events"], title)
    groups: Rows = {
        (part, name.replace("_", " ")): columns
        for part, each in metrics.items()
        for name, columns in task.group_columns(each).items()
    }
    if groups:
        yield table_of(groups, ["events", "group"], "groups of events")


def table_of(rows: Rows, names: list[str], title: str) -> Table:
    """Returns a table.

    Args:
        rows: The rows.
        names: The headings of the names.
        title: Stands above the table.
    """
    table = Table(title=title)
    for name in names:
        table.add_column(name, no_wrap=True)
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right")
    before = next(iter(rows))[0]
    for row, columns in rows.items():
        if len(names) > 1 and row[0] != before:
            table.add_section()
        table.add_row(*row, *columns.values())
        before = row[0]
    return table
