"""``mspipe data``: facts about a stream, before training on it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.cli.errors import BAD_INPUT, State, in_flags, one_line_errors, tell_problems
from pyg_mspipe.cli.usage import OneLineGroup
from pyg_mspipe.training.config import ConfigError

if TYPE_CHECKING:
    from pyg_mspipe.data import StreamSummary

app = typer.Typer(cls=OneLineGroup, no_args_is_help=True, help="Look at a stream of events, or convert one.")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@app.callback()
def about() -> None:
    """Look at a stream of events, or convert one."""


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


Inputs = Annotated[
    list[str], typer.Argument(help="Files of events, patterns such as 'events/*.parquet', or folders of Parquet files.")
]
Memory = Annotated[str, typer.Option(help="Memory to use, beside the 0.4 GB of Python and its packages, as in 500MB.")]


@app.command(no_args_is_help=True)
@options.with_reading
def convert(
    ctx: typer.Context,
    inputs: Inputs,
    out: Annotated[Path, typer.Argument(help="The folder to write, NAME.stream.")],
    reading: dict[str, Any],
    memory: Memory = "2GB",
    float16: Annotated[bool, typer.Option("--float16", help="Store messages rounded to float16.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there.")] = False,
) -> None:
    """Convert files of events, of any size, into a stream folder, which every command takes in place of a file.

    Examples:
        mspipe data convert clicks.csv clicks.stream --src user --dst item --time ts
        mspipe data convert 'events/*.parquet' events.stream --sort --relabel --memory 4GB
    """
    with one_line_errors(ctx):
        size = _bytes(memory)
        with loading():
            from pyg_mspipe.data import convert_stream
        source = options.source_of(inputs[0], **reading)
        given = {name: value for name, value in source.items() if name not in ("name_or_path", "root")}
        folder = convert_stream(inputs, out, memory=size, overwrite=overwrite, half=float16, **given)
        typer.echo(f"{out}: {folder.num_events:,} events, {folder.num_nodes:,} nodes, {_in_units(folder.nbytes)}")


@app.command(no_args_is_help=True)
def append(
    stream: Annotated[Path, typer.Argument(help="The stream folder.")], inputs: Inputs, memory: Memory = "2GB"
) -> None:
    """Append later events to a stream folder, from files like those that it was converted from.

    Examples:
        mspipe data append clicks.stream clicks-2024-05.csv
    """
    with one_line_errors():
        size = _bytes(memory)
        with loading():
            from pyg_mspipe.data import append_stream
        folder = append_stream(stream, inputs, memory=size)
        typer.echo(f"{stream}: {folder.num_events:,} events, {folder.num_nodes:,} nodes, {_in_units(folder.nbytes)}")


def _bytes(text: str) -> int:
    """Returns a size that is given as a number with a unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"--memory is {text!r}; give a size such as 500MB or 2GB")
    power = "kmgt".find(found[2].lower()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def _in_units(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.2f} MB"


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
        "repeated pairs": "not counted" if summary.repeat_share is None else f"{summary.repeat_share:.1%} of events",
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
