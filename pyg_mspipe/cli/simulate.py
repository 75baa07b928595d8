"""``mspipe simulate``: the pipeline's rate, staleness and timeline for given durations of its stages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.text import Text

from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.training.config import ConfigError

if TYPE_CHECKING:
    from pyg_mspipe.pipeline.durations import Durations

_WIDTH = 100
_SHORTEST = 1e-6


def simulate(
    tau: Annotated[
        str, typer.Option(help="Milliseconds of sample, gather, fetch, train and update.", show_default=False)
    ],
    batches: Annotated[int, typer.Option(help="How many batches to simulate.")] = 200,
    rows: Annotated[float, typer.Option(help="Share of training after which the new memory rows exist.")] = 1.0,
    jitter: Annotated[float, typer.Option(help="Standard deviation of the durations, as a share of their mean.")] = 0.0,
    mode: Annotated[str, typer.Option(help="sequential, exact, minimal, or a fixed bound.")] = "minimal",
    prefetch: Annotated[int, typer.Option(help="Batches that sampling may be ahead of training.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides the jitter.")] = 0,
    timeline: Annotated[Path | None, typer.Option(help="Write a Chrome trace here.", show_default=False)] = None,
) -> None:
    """Simulate the pipeline: its rate, the staleness it uses, what limits it, and its timeline.

    The same scheduler decides as in training.

    Examples:
        mspipe simulate --tau 1,2,3,5,3
        mspipe simulate --tau 1,1,1,5,6 --rows 0.4 --jitter 0.3 --mode exact --timeline out.json
    """
    with one_line_errors():
        from pyg_mspipe.cli.simulated import figures, pictured
        from pyg_mspipe.pipeline.scheduler import parse_staleness
        from pyg_mspipe.timeline import summarize_timeline
        from pyg_mspipe.timeline.simulator import draw_durations
        from pyg_mspipe.timeline.simulator import simulate as run_clock
        from pyg_mspipe.timeline.trace import write_trace

        mean = _durations(tau, rows)
        if not 0 <= jitter < math.inf:
            raise ConfigError(f"--jitter is {jitter}; give a number from 0")
        if batches < 2:
            raise ConfigError(f"--batches is {batches}; give at least 2")
        if prefetch < 1:
            raise ConfigError(f"--prefetch is {prefetch}; give at least 1")
        try:
            staleness = parse_staleness(mode)
        except ValueError as error:
            raise ConfigError(f"--mode: {error}") from error
        result = run_clock(draw_durations(mean, batches, jitter=jitter, seed=seed), staleness, prefetch=prefetch)
        title = f"simulated, {mode}, {batches} batches, prefetch {prefetch}"
        if timeline is not None:
            write_trace(timeline, result.records, title=title)
        summary = summarize_timeline(result.records)
        console = Console()
        lines = Group(figures(result, mean, staleness), Text(f"limited by  {summary.limit}: {summary.advice}"))
        console.print(Text(title, style="bold"), lines, highlight=False, soft_wrap=True)
        console.print()
        console.print(pictured(result, min(console.width, _WIDTH)), highlight=False, no_wrap=True)


def _durations(tau: str, rows: float) -> Durations:
    from pyg_mspipe.pipeline.durations import Durations
    from pyg_mspipe.pipeline.record import STAGES

    parts = tau.split(",")
    try:
        milliseconds = [float(part) for part in parts]
    except ValueError:
        raise ConfigError(f"--tau is {tau!r}; give five numbers, as in 1,2,3,5,3") from None
    if len(parts) != len(STAGES):
        raise ConfigError(f"--tau has {len(parts)} durations; give five, for {', '.join(STAGES)}")
    if not all(each == 0 or _SHORTEST <= each < math.inf for each in milliseconds) or not any(milliseconds):
        raise ConfigError(f"--tau is {tau!r}; give durations of 0 or from {_SHORTEST} ms on, one of them above 0")
    if not 0 <= rows <= 1:
        raise ConfigError(f"--rows is {rows}; give a share of training from 0 to 1")
    sample, gather, fetch, train, update = (each * 1e-3 for each in milliseconds)
    return Durations(sample, gather, fetch, train, update, rows=rows * train)
