"""A simulation of the pipeline: when each stage works on each batch, with the scheduler that training uses."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import get_args

from pyg_mspipe.pipeline.durations import WINDOW, Durations, Measured
from pyg_mspipe.pipeline.record import STAGES, BatchRecord, StageName
from pyg_mspipe.pipeline.scheduler import Decision, PipelineState, Scheduler, Staleness


@dataclass(frozen=True)
class Simulation:
    """A simulated pass.

    Attributes:
        records: The record of each batch.
        decisions: The scheduler's decision for each batch; empty for ``sequential``, which decides nothing.
        mean: The stages' mean durations.
    """

    records: list[BatchRecord]
    decisions: list[Decision]
    mean: Durations

    @property
    def staleness(self) -> list[int]:
        """Returns how many commits each batch missed."""
        return [record.staleness for record in self.records]

    @property
    def rate(self) -> float:
        """Returns the batches per second, without the first quarter of them, in which the pipeline fills."""
        first, last = self.records[len(self.records) // 4], self.records[-1]
        return (last.index - first.index) / (last.finish["update"] - first.finish["update"])

    @property
    def best_rate(self) -> float:
        """Returns the batches per second that the slowest resource allows, ``1 / Lambda`` of the mean durations."""
        return 1 / self.mean.period


def draw_durations(mean: Durations, batches: int, *, jitter: float = 0.0, seed: int = 0) -> list[Durations]:
    """Returns durations for each batch, drawn from log-normal distributions.

    Args:
        mean: The means of the distributions.
        batches: Number of batches.
        jitter: The standard deviation, as a share of the mean. A batch's ``rows`` keep their share of its ``train``.
        seed: Decides the draws.
    """
    rng = random.Random(seed)
    variance = math.log1p(jitter**2)
    drawn = []
    for _ in range(batches):
        factor = {stage: rng.lognormvariate(-variance / 2, math.sqrt(variance)) for stage in STAGES}
        taken = {stage: getattr(mean, stage) * factor[stage] for stage in STAGES}
        drawn.append(Durations(**taken, rows=mean.rows * factor["train"]))
    return drawn


def simulate(
    durations: Sequence[Durations], staleness: Staleness | Scheduler, *, prefetch: int = 3, warm: bool = True
) -> Simulation:
    """Returns the simulation of a pass whose stages take the given times.

    Args:
        durations: The stages' durations for each batch; at least one of them is above 0.
        staleness: A mode or a fixed bound, or a scheduler with estimates of its own.
        prefetch: How many batches sampling may be ahead of training, ``P``: batch ``i`` is sampled when training of
            ``i - P`` has begun.
        warm: Whether the scheduler has seen these durations before, as in a second epoch.

    Raises:
        ValueError: If there are fewer than two batches, no stage takes time or the prefetch depth is below 1.
    """
    if len(durations) < 2:
        raise ValueError(f"{len(durations)} batches make no rate; give at least 2")
    if prefetch < 1:
        raise ValueError(f"prefetch={prefetch}; give at least 1")
    stages = get_args(Measured)
    mean = Durations(**{stage: fmean(getattr(each, stage) for each in durations) for stage in stages})
    if mean.period <= 0:
        raise ValueError("all durations are 0; give at least one stage some time")
    scheduler = staleness if isinstance(staleness, Scheduler) else Scheduler(staleness)
    if scheduler.staleness == "sequential":
        return Simulation(_one_after_the_other(durations), [], mean)
    if warm:
        for each in durations[:WINDOW]:
            for stage in stages:
                scheduler.estimates.observe(stage, getattr(each, stage))
    clock = _Clock(scheduler, prefetch)
    for each in durations:
        clock.advance(each)
    return Simulation(clock.records, clock.decisions, mean)


def _one_after_the_other(durations: Sequence[Durations]) -> list[BatchRecord]:
    records, now = [], 0.0
    for i, each in enumerate(durations):
        record = BatchRecord(i, fetched=i)
        for stage in STAGES:
            record.begin[stage] = now
            now += getattr(each, stage)
            record.finish[stage] = now
        record.rows_at = record.begin["train"] + each.rows
        records.append(record)
    return records


@dataclass
class _Clock:
    """When the stages begin and finish, batch by batch: a batch depends only on the batches before it."""

    scheduler: Scheduler
    prefetch: int
    records: list[BatchRecord] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    # When batches were trained and committed; both lists rise, so that bisection finds what had happened by a moment.
    trained: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)
    # For how many batches the estimates have seen each stage's duration.
    observed: dict[Measured, int] = field(default_factory=lambda: {"fetch": 0, "train": 0, "rows": 0, "update": 0})

    def advance(self, durations: Durations) -> None:
        """Adds the next batch."""
        i = len(self.records)
        record = BatchRecord(i)
        before = self.records[-1].finish if self.records else {}

        def work(stage: StageName, seconds: float, *after: float) -> float:
            record.begin[stage] = max(after)
            record.finish[stage] = record.begin[stage] + seconds
            return record.finish[stage]

        freed = self.records[i - self.prefetch].begin["train"] if i >= self.prefetch else 0.0
        sampled = work("sample", durations.sample, before.get("sample", 0.0), freed)
        # Gathers and fetches share the copy path, in the order of their batches.
        gathered = work("gather", durations.gather, sampled, before.get("fetch", 0.0))

        self._observe(gathered, durations)
        decision = self.scheduler.decide(i, self._state(gathered))
        idle = before.get("train", 0.0)
        start = min(decision.fetch_at, idle, self._commit(decision.expect))
        fetched = work("fetch", durations.fetch, gathered, self._commit(decision.wait_for), start)
        record.bound = decision.bound
        record.fetched = bisect_right(self.committed, record.begin["fetch"])
        record.staleness = 0 if self.scheduler.staleness == "exact" else i - record.fetched

        self.trained.append(work("train", durations.train, fetched, before.get("train", 0.0)))
        record.rows_at = record.begin["train"] + durations.rows
        self.committed.append(work("update", durations.update, record.rows_at, before.get("update", 0.0)))
        self.records.append(record)
        self.decisions.append(decision)

    def _commit(self, version: int) -> float:
        """Returns when all commits of a version were applied."""
        return self.committed[version - 1] if version else 0.0

    def _state(self, now: float) -> PipelineState:
        """Returns the state of the pipeline at the time ``now``."""

        def past(moment: float | None) -> float | None:
            return moment if moment is not None and moment <= now else None

        training, version = bisect_right(self.trained, now), bisect_right(self.committed, now)
        in_training = self.records[training] if training < len(self.records) else None
        in_update = self.records[version] if version < len(self.records) else None
        return PipelineState(
            now,
            training,
            past(in_training.begin["train"]) if in_training else None,
            past(in_training.rows_at) if in_training else None,
            version,
            past(in_update.begin["update"]) if in_update else None,
        )

    def _observe(self, now: float, gathered: Durations) -> None:
        """Adds the durations of all stages that had finished by ``now`` to the estimates."""
        estimates = self.scheduler.estimates
        estimates.observe("sample", gathered.sample)
        estimates.observe("gather", gathered.gather)
        for stage, number in self.observed.items():
            for record in self.records[number:]:
                begin = record.begin["train" if stage == "rows" else stage]
                finish = record.rows_at if stage == "rows" else record.finish[stage]
                if finish is None or finish > now:
                    break
                estimates.observe(stage, finish - begin)
                self.observed[stage] += 1
