"""Measurements of variants as tables for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.harness.measure import Measurement
from benchmarks.harness.stages import STAGES


def as_json(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    """Returns what was measured, with medians and ratios to the first, the baseline."""
    baseline = measurements[0]
    return [
        {**asdict(m), "median": m.median, "spread": m.spread, "ratio_to_baseline": m.ratio_to(baseline)}
        for m in measurements
    ]


def print_tables(console: Console, title: str, measurements: Sequence[Measurement]) -> None:
    """Prints rates and ratios, then where the time of a step goes."""
    baseline = measurements[0]
    rates = Table("", title=title)
    for heading in ("events/s", "ratio", "spread", "val AP", "val AUC", "peak memory"):
        rates.add_column(heading, justify="right")
    for m in measurements:
        ap, auc = f"{m.scores[-1].ap:.4f}", f"{m.scores[-1].auc:.4f}"
        memory = f"{m.profile.peak_rss / 1e9:.2f} GB" if m.profile else ""
        rates.add_row(m.name, f"{m.median:,.0f}", f"{m.ratio_to(baseline):.2f}", f"{m.spread:.0%}", ap, auc, memory)
    console.print(rates)

    stages = Table("", title="Milliseconds per batch, in a pass of its own")
    profiles = []
    for m in measurements:
        if m.profile:
            stages.add_column(m.name, justify="right")
            profiles.append(m.profile.stage_ms)
    for name in STAGES:
        stages.add_row(name, *(f"{times[name]:.2f}" for times in profiles))
    stages.add_section()
    stages.add_row("sum", *(f"{sum(times.values()):.2f}" for times in profiles))
    console.print(stages)
