"""What ``mspipe simulate`` shows of a simulation."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyg_mspipe.pipeline.durations import Durations
from pyg_mspipe.pipeline.record import STAGES, BatchRecord
from pyg_mspipe.pipeline.scheduler import Staleness
from pyg_mspipe.timeline.simulator import Simulation

_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_PERIODS_SHOWN = 6
_BAR = 40


def figures(result: Simulation, mean: Durations, staleness: Staleness) -> RenderableType:
    """Returns a table of rate, cap and used staleness.

    Args:
        result: The simulation.
        mean: The mean durations of the stages.
        staleness: What bounds the staleness.
    """
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


def pictured(result: Simulation, width: int) -> RenderableType:
    """Returns a row for each stage over some periods in the third quarter of the pass, with the batches' numbers.

    Args:
        result: The simulation.
        width: Columns of the terminal that it may take.
    """
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
