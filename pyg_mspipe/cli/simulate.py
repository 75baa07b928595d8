"""``mspipe simulate``: the pipeline's rate, staleness and timeline for given durations of its stages."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.pipeline.durations import Durations
from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.pipeline.scheduler import Staleness, parse_staleness
from pyg_mspipe.timeline.simulator import Simulation, draw_durations
from pyg_mspipe.timeline.simulator import simulate as run_clock
from pyg_mspipe.timeline.summary import summarize_timeline
from pyg_mspipe.timeline.trace import write_trace
from pyg_mspipe.training import ConfigError

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_PERIODS_SHOWN = 6
_WIDTH = 100
_BAR = 40
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
        lines = Group(_figures(result, mean, staleness), Text(f"limited by  {summary.limit}: {summary.advice}"))
        console.print(Text(title, style="bold"), lines, highlight=False, soft_wrap=True)
        console.print()
        console.print(_timeline(result, min(console.width, _WIDTH)), highlight=False, no_wrap=True)


def _durations(tau: str, rows: float) -> Durations:
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


def _figures(result: Simulation, mean: Durations, staleness: Staleness) -> RenderableType:
    cap = mean.staleness_cap
    most = max((decision.cap for decision in result.decisions), default=cap)
    share = result.rate / result.best_rate
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("rate", f"{result.rate:,.1f} batches a second")
    table.add_row(
        "1 / Lambda", f"{result.best_rate:,.1f} (Lambda {result.mean.period * 1e3:,.3g} ms); {share:.1%} of it reached"
    )
    for_jitter = f"; up to {most} with jitter" if most > cap else ""
    table.add_row("k*", f"{cap} (fetch, rows and update take {mean.loop * 1e3:,.3g} ms){for_jitter}")
    used = Counter(result.staleness)
    for number, value in enumerate(sorted(used)):
        part = used[value] / len(result.records)
        bar = "█" * max(1, round(_BAR * part))
        table.add_row("staleness" if number == 0 else "", f"{value} {bar} {part:.1%}")
    if isinstance(staleness, int):
        table.add_row("", f"at most {staleness} allowed")
    return table


def _timeline(result: Simulation, width: int) -> RenderableType:
    """Returns a row for each stage over some periods in the third quarter of the pass, with the batches' numbers."""
    records = result.records
    label = max(map(len, STAGES)) + 2
    columns = max(width - label, 20)
    start = records[len(records) // 2].begin["train"]
    column = _PERIODS_SHOWN / result.rate / columns

    def place(moment: float) -> int:
        return round((moment - start) / column)

    lines = []
    for stage in STAGES:
        line = Text(" " * columns)
        for record in records:
            first, end = place(record.begin[stage]), place(record.finish[stage])
            if end > 0 and first < columns:
                line = _with_block(line, first, end, record, place(record.rows_at or 0) if stage == "train" else None)
        lines.append(Text(f"{stage:{label}}") + line)
    missed = [" "] * columns
    for record in records:
        at = place(record.begin["train"])
        if 0 <= at < columns:
            missed[at] = str(record.staleness)
    lines.append(Text(f"{'stale':{label}}" + "".join(missed)))
    lines.append(Text(f"a column is {column * 1e3:,.2g} ms; ◆ new rows exist", style="dim"))
    return Group(*lines)


def _with_block(line: Text, first: int, end: int, record: BatchRecord, rows_at: int | None) -> Text:
    number = str(record.index)
    cells = list(number.ljust(end - first, "─")) if len(number) <= end - first else ["▪"] * (end - first)
    if rows_at is not None and cells:
        cells[min(max(rows_at - first, len(number)), len(cells) - 1)] = "◆"
    shown = range(max(first, 0), min(end, len(line)))
    block = Text("".join(cells[at - first] for at in shown), style=_STYLES[record.index % len(_STYLES)])
    return line[: shown.start] + block + line[shown.stop :]
