"""The metrics of a run's parts as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev

from rich.table import Table

from pyg_mspipe.tasks import Metrics, Task
from pyg_mspipe.tasks.link import BEST_LABELS

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


def spread_of(found: Sequence[Mapping[str, Metrics]], title: str) -> Table:
    """Returns a table of mean and standard deviation of link prediction's metrics over several evaluations.

    Args:
        found: The metrics of each evaluation, by part.
        title: Stands above the table.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for part in found[0]:
        values = {label: [getattr(each[part], name) for each in found] for name, label in BEST_LABELS.items()}
        rows[(part,)] = {label: f"{fmean(each):.4f} ± {stdev(each):.4f}" for label, each in values.items()}
    return table_of(rows, ["events"], title)


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
