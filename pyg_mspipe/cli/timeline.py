"""``mspipe timeline``: a summary of a run's timeline, and its picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.training.config import ConfigError

if TYPE_CHECKING:
    from pyg_mspipe.pipeline import BatchRecord


def timeline(
    trace: Annotated[Path, typer.Argument(help="A trace that --timeline wrote.", show_default=False)],
    png: Annotated[Path | None, typer.Option(help="Draw some batches into this file.", show_default=False)] = None,
    first: Annotated[
        int | None, typer.Option(min=0, help="First batch to draw (default: a dozen from the middle).")
    ] = None,
    last: Annotated[int | None, typer.Option(min=0, help="Last batch to draw.", show_default=False)] = None,
) -> None:
    """Say which stage limits a run and what would help, and draw its timeline.

    Examples:
        mspipe timeline out.json
        mspipe timeline out.json --png out.png --first 40 --last 55
    """
    with one_line_errors():
        if png is None and not first is last is None:
            raise ConfigError("--first and --last choose what --png draws; give --png FILE too")
        if png is not None and png.suffix.lower() != ".png":
            raise ConfigError(f"--png {png}: give a name that ends in .png")
        if trace.is_dir():
            raise ConfigError(f"{trace} is a folder; give the trace that --timeline wrote")
        if not trace.exists():
            raise ConfigError(f"{trace} does not exist; give the trace that --timeline wrote")
        if trace.name == "metrics.jsonl":
            raise ConfigError(f"{trace} is the log of a run; give the trace that --timeline wrote")
        from pyg_mspipe.timeline import draw_timeline, read_trace, summarize_timeline
        from pyg_mspipe.timeline.trace import read_title

        try:
            records = read_trace(trace)
            summary = summarize_timeline(records)
            if png is not None:
                draw_timeline(records, png, first=first, last=last)
        except (ImportError, ValueError) as error:
            raise ConfigError(str(error)) from error
        console = Console()
        console.print(read_title(trace), style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(summary, highlight=False, soft_wrap=True)
        if _in_line(records):
            console.print(
                "all stages ran one after the other; --overlap always runs them during training, which saves time if a "
                "core is idle or stages wait for a disk",
                highlight=False,
                soft_wrap=True,
            )


def _in_line(records: list[BatchRecord]) -> bool:
    """Returns whether each batch began only after the batch before it was trained."""
    return not any(
        later.begin["sample"] < earlier.finish["train"]
        for earlier, later in itertools.pairwise(records)
        if "train" in earlier.finish and "sample" in later.begin
    )
