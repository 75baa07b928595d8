"""A summary of a timeline: the rate, how much the stages overlapped, what limits the rate, what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pyg_mspipe.pipeline.record import STAGES, BatchRecord, StageName

Limit = Literal["sampling", "copy", "training", "update", "dependency", "overlap"]

# A limit explains a pass if it accounts for this much of the time from one batch to the next.
_EXPLAINED = 0.8
# Estimates that differ by less are taken for equal.
_MARGIN = 1.05


@dataclass(frozen=True)
class StageSummary:
    """One stage in steady state.

    Attributes:
        duration: Median time that the stage worked on a batch, in seconds.
        busy: Share of the time in which the stage worked.
        waiting: Median time that a batch waited for the stage, in seconds; 0 for the first stage. A commit waits from
            the moment when its rows exist.
    """

    duration: float
    busy: float
    waiting: float


@dataclass(frozen=True)
class TimelineSummary:
    """A pass in figures; ``rich`` prints it as a table.

    Attributes:
        batches: How many batches finished all stages.
        rate: Batches per second in steady state.
        bound: The most that the stages' durations allow, ``1 / Lambda``, in batches per second.
        overlap: Share of the possible overlap that was reached: 0 if one stage ran after the other, 1 if the slowest
            stage hid all others, less than 0 if time passed outside the stages. None if nothing can overlap.
        stages: The summary of each stage.
        staleness: How many batches were trained with each staleness, in rising order.
        limit: What limits the rate: a stage; ``copy``, gather and fetch together; ``dependency``, the way from fetch
            over the new rows to the commit that a later fetch waits for; or ``overlap``, if none of these explains the
            rate.
        advice: What would help, in one sentence.
    """

    batches: int
    rate: float
    bound: float
    overlap: float | None
    stages: dict[StageName, StageSummary]
    staleness: dict[int, int]
    limit: Limit
    advice: str

    def __rich__(self) -> RenderableType:
        """Returns the table that a terminal shows."""
        table = Table(box=None, pad_edge=False)
        for column in ("stage", "a batch takes", "busy", "a batch waits for it"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for stage, each in self.stages.items():
            waiting = "" if stage == STAGES[0] else _ms(each.waiting)
            table.add_row(stage, _ms(each.duration), f"{each.busy:.0%}", waiting)
        overlap = "" if self.overlap is None else f"; {max(self.overlap, 0):.0%} of the possible overlap reached"
        trained = sum(self.staleness.values())
        shares = ", ".join(f"{value}: {count / trained:.1%}" for value, count in self.staleness.items())
        lines = [
            f"{self.batches:,} batches, {self.rate:,.1f} a second; at most {self.bound:,.1f}{overlap}",
            f"staleness  {shares}",
            f"limited by {self.limit}: {self.advice}",
        ]
        return Group(table, *(Text(line) for line in lines))


def summarize_timeline(records: Iterable[BatchRecord]) -> TimelineSummary:
    """Returns the summary of a pass: staleness over the whole pass, rates without its first and last eighth.

    Args:
        records: The records of the batches of one pass, in order. Batches that did not finish all stages count for
            staleness alone.

    Raises:
        ValueError: If fewer than two batches finished all stages.
    """
    records = list(records)
    done = [record for record in records if len(record.finish) == len(STAGES)]
    if len(done) < 2:
        raise ValueError(f"{len(done)} batches finished all stages; at least 2 are needed, so record a longer run")
    steady = done[len(done) // 8 : len(done) - len(done) // 8]
    first, last = steady[0], steady[-1]
    # If training takes no time and no fetch waits for a commit, training finishes at once and only commits take time.
    last_stages: tuple[StageName, ...] = ("train", "update")
    period = max(last.finish[each] - first.finish[each] for each in last_stages) / (last.index - first.index)
    stages = {
        stage: StageSummary(
            duration=median(record.duration(stage) for record in steady),
            busy=fmean(record.duration(stage) for record in steady) / period,
            waiting=median(_waiting(record, stage) for record in steady),
        )
        for stage in STAGES
    }
    tau = {stage: each.duration for stage, each in stages.items()}
    resources: dict[Limit, float] = {
        "sampling": tau["sample"],
        "copy": tau["gather"] + tau["fetch"],
        "training": tau["train"],
        "update": tau["update"],
    }
    total, slowest = sum(tau.values()), max(resources.values())
    limit = _limit(resources, _dependency(steady), period)
    staleness = Counter(record.staleness for record in records if "train" in record.finish)
    return TimelineSummary(
        batches=len(done),
        rate=1 / period,
        bound=1 / slowest,
        overlap=(total - period) / (total - slowest) if total > _MARGIN * slowest else None,
        stages=stages,
        staleness=dict(sorted(staleness.items())),
        limit=limit,
        advice=_advice(limit, tau, resources, period),
    )


def _waiting(record: BatchRecord, stage: StageName) -> float:
    if stage == STAGES[0]:
        return 0.0
    ready = record.finish[STAGES[STAGES.index(stage) - 1]]
    if stage == "update" and record.rows_at is not None:
        ready = record.rows_at
    return max(0.0, record.begin[stage] - ready)


def _dependency(records: Sequence[BatchRecord]) -> float:
    """Returns the least time between two batches that the memory loop allows with the staleness they had.

    The loop of fetch, new rows and commit may span one period more than commits were missed. The result is 0 if no
    fetch waited for a commit.
    """
    missed = [record.index - record.fetched for record in records]
    if any(record.staleness < miss for record, miss in zip(records, missed, strict=True)):
        return 0.0  # the rows were forwarded, so that no fetch waited for a commit
    loop = median(
        record.duration("fetch")
        + (record.finish["train"] if record.rows_at is None else record.rows_at)
        - record.begin["train"]
        + record.duration("update")
        for record in records
    )
    return loop / (1 + fmean(missed))


def _limit(resources: dict[Limit, float], dependency: float, period: float) -> Limit:
    slowest = max(resources, key=lambda name: resources[name])
    explained = max(resources[slowest], dependency)
    if explained < _EXPLAINED * period:
        return "overlap"
    return "dependency" if dependency > _MARGIN * resources[slowest] else slowest


def _advice(limit: Limit, tau: dict[StageName, float], resources: dict[Limit, float], period: float) -> str:
    if limit == "sampling":
        return f"sampling takes {_ms(tau['sample'])} a batch; fewer neighbours or hops would help."
    if limit == "copy":
        return (
            f"gather ({_ms(tau['gather'])}) and fetch ({_ms(tau['fetch'])}) share one path; features in faster "
            "storage, or fewer neighbours, would help."
        )
    if limit == "training":
        return (
            f"training takes {_ms(tau['train'])} of each {_ms(period)}; a faster model or --precision bf16 would help."
        )
    if limit == "update":
        return f"a commit takes {_ms(tau['update'])}; larger batches, which commit less often, would help."
    if limit == "dependency":
        return "fetches wait for commits longer than any stage works; --staleness exact or minimal would help."
    slowest = max(resources.values())
    return (
        f"a batch takes {_ms(period)}, the slowest stage {_ms(slowest)}; --staleness exact or minimal would help or, "
        "if already in use, leaving a core to the stages (--threads)."
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"
