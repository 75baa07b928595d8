"""``mspipe data``: facts about a stream, before training on it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.cli.errors import BAD_INPUT, State, in_flags, one_line_errors, tell_problems
from pyg_mspipe.cli.usage import OneLineGroup

if TYPE_CHECKING:
    from pyg_mspipe.data import StreamSummary

app = typer.Typer(cls=OneLineGroup, no_args_is_help=True, help="Look at a stream of events.")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@app.callback()
def about() -> None:
    """Look at a stream of events."""


@app.command(no_args_is_help=True)
@options.with_reading
def info(
    ctx: typer.Context,
    stream: options.Stream,
    reading: dict[str, Any],
) -> None:
    """Show the events, nodes, times, ties and degrees of a stream, and all its problems.

    The exit code is 2 if the stream cannot be trained on.

    Examples:
        mspipe data info clicks.csv --src user --dst item --time ts
        mspipe data info wikipedia
    """
    with one_line_errors(ctx):
        with loading():
            from pyg_mspipe.data import StreamError, summarize
            from pyg_mspipe.training.source import open_stream
        source = options.source_of(stream, **reading)
        try:
            data = open_stream(source)
        except StreamError as error:
            if State.debug:
                raise
            tell_problems(error, "problem", ctx)
            raise typer.Exit(BAD_INPUT) from None
        summary, console = summarize(data), Console()
        show(summary, console, options.unit_of(source))
        notes = [options.time_note(source, summary.first_time, summary.last_time), options.column_note(source)]
        for note in (options.form_note(source), *notes):
            if note is not None:
                console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def show(summary: StreamSummary, console: Console, time_unit: str | None = None) -> None:
    """Prints a summary as a table, and its warnings.

    Args:
        summary: Of the stream.
        console: Where to print it.
        time_unit: The unit that the times are counted in, where it is known.
    """
    degrees = summary.degrees
    kind = "bipartite" if summary.bipartite else "nodes in both roles"
    rows = {
        "events": f"{summary.num_events:,}",
        "nodes": f"{summary.num_distinct_nodes:,} ({summary.num_sources:,} sources, "
        f"{summary.num_destinations:,} destinations; {kind})",
        "memory rows": f"{summary.num_nodes:,} (ids {summary.min_id} to {summary.num_nodes - 1})",
        "time": _span(summary, time_unit or summary.time_unit.removeprefix("epoch ")),
        "distinct times": f"{summary.num_distinct_times:,}; {summary.tied_share:.1%} of events share theirs, "
        f"{summary.largest_tie:,} at most",
        "self-loops": f"{summary.num_self_loops:,}",
        "repeated pairs": f"{summary.repeat_share:.1%} of events",
        "events per node": f"median {degrees.median:,}, 90 % up to {degrees.p90:,}, 99 % up to {degrees.p99:,}, "
        f"at most {degrees.max:,} (Gini {degrees.gini:.2f})",
        "message width": str(summary.msg_dim),
        "labels": ", ".join(f"{label}: {count:,}" for label, count in summary.label_counts.items()) or "none",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(f"[bold]{name}", value)
    console.print(table)
    for warning in summary.warnings:
        console.print(f"[yellow]warning:[/] {in_flags(warning)}", highlight=False, soft_wrap=True)
    if not summary.warnings:
        console.print("nothing is wrong with it")


def _span(summary: StreamSummary, unit: str) -> str:
    from pyg_mspipe.data.dates import SECONDS

    first, last = summary.first_time, summary.last_time
    try:
        length = SECONDS[unit]
        per_second = round(1 / length)  # whole numbers, as a float would round nanoseconds
        dates = [_EPOCH + timedelta(seconds=t // per_second if per_second else t * int(length)) for t in (first, last)]
    except (KeyError, OverflowError):  # no unit that is known, or no date that datetime holds
        return f"{first:,} to {last:,} ({unit})"
    if unit == "days":
        return f"{' to '.join(f'{date:%Y-%m-%d}' for date in dates)}, days"
    return f"{' to '.join(f'{date:%Y-%m-%d %H:%M:%S}' for date in dates)} UTC, {unit}"
