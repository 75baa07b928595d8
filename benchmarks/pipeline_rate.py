"""How close the engine comes to what its stages allow: stages that only wait, against the simulator and 1 / Lambda."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run
from pyg_mspipe.memory import Commit, NodeState
from pyg_mspipe.pipeline import BatchRecord, PipelineEngine, Staleness
from pyg_mspipe.pipeline.durations import Durations
from pyg_mspipe.timeline.simulator import simulate

MODES: tuple[Staleness, ...] = ("sequential", "exact", "minimal", 0, 1, 2, 4)
SETTINGS = {
    # sample, gather, fetch, train, update, rows
    "training-bound": (1, 1, 1, 6, 2, 3),
    "training-bound, rows at the end": (1, 1, 2, 5, 4, 5),
    "copy-bound": (1, 3, 3, 4, 2, 2),
    "update-bound": (1, 1, 1, 5, 6, 5),
    "sampling-bound": (6, 1, 1, 4, 2, 2),
    "long memory loop": (1, 1, 3, 5, 5, 4),
    "balanced": (3, 1.5, 1.5, 3, 3, 1.5),
}
"""Durations, in units of so many milliseconds."""


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: batches of each pass, and the milliseconds of a unit."""

    batches: int = 150
    unit: float = 4.0


class Nothing:
    """A batch without content."""


class Batches:
    """So many batches of nothing, whose stages wait."""

    def __init__(self, number: int, durations: Durations) -> None:
        self.number = number
        self.durations = durations

    def __len__(self) -> int:
        return self.number

    def events_of(self, index: int) -> range:
        return range(index, index + 1)

    def draw(self, events: range, epoch: int, index: int) -> Nothing:
        wait(self.durations.sample)
        return Nothing()

    def gather(self, batch: Nothing) -> Nothing:
        wait(self.durations.gather)
        return batch

    def as_of(self, batch: Nothing, index: int, version: int) -> Nothing:
        return batch


class Memory(NodeState):
    """A memory of nothing, whose fetch and update wait."""

    mitigates = False

    def __init__(self, durations: Durations) -> None:
        super().__init__()
        self.durations = durations

    def fetch(self, batch: Nothing, *, mitigated: bool = False) -> None:
        wait(self.durations.fetch)

    def apply(self, commit: Commit) -> None:
        wait(self.durations.update)

    def catch_up(self, rows: None, commits: Sequence[Commit]) -> None:
        """Does nothing."""

    def note_missed(self, rows: None, commits: Sequence[Commit]) -> None:
        """Does nothing."""


def wait(seconds: float) -> None:
    """Sleeps, but for the last part, which sleeping would overshoot."""
    end = time.perf_counter() + seconds
    time.sleep(max(seconds - 3e-4, 0))
    while time.perf_counter() < end:
        time.sleep(0)


def pass_through(durations: Durations, staleness: Staleness, batches: int) -> list[BatchRecord]:
    """Returns the records of a pass through the engine."""
    records: list[BatchRecord] = []
    commit = Commit(torch.zeros(0, dtype=torch.long), {}, stop=0)
    engine = PipelineEngine(
        Batches(batches, durations),
        Memory(durations),
        device=torch.device("cpu"),
        staleness=staleness,
        overlap=True,
        on_record=records.append,
    )
    for _ in engine:
        wait(durations.rows)
        engine.commit(commit)
        wait(durations.train - durations.rows)
    return records


def rate(records: Sequence[BatchRecord]) -> float:
    """Returns batches per second, without the quarter at the start, in which estimates are made."""
    steady = records[len(records) // 4 :]
    return (len(steady) - 1) / (steady[-1].begin["train"] - steady[0].begin["train"])


def measure(settings: Settings, run: Run) -> Result:
    """Runs every setting in every mode."""
    rows = []
    table = Table("setting", "mode", "share of 1/Lambda", "simulated", "staleness", "bound held")
    for name, units in SETTINGS.items():
        durations = Durations(*(settings.unit / 1000 * unit for unit in units))
        for mode in MODES:
            records = pass_through(durations, mode, settings.batches)
            simulated = rate(simulate([durations] * settings.batches, mode, warm=False).records)
            share, expected = rate(records) * durations.period, simulated * durations.period
            staleness = Counter(record.staleness for record in records[len(records) // 4 :])
            held = all(record.staleness <= record.bound for record in records)
            rows.append(
                {
                    "setting": name,
                    "durations_ms": {key: 1000 * value for key, value in asdict(durations).items()},
                    "k_star": durations.staleness_cap,
                    "mode": str(mode),
                    "batches_per_second": rate(records),
                    "share_of_bound": share,
                    "simulated_share_of_bound": expected,
                    "staleness": {str(key): staleness[key] for key in sorted(staleness)},
                    "bound_held": held,
                }
            )
            used = " ".join(f"{key}:{staleness[key]}" for key in sorted(staleness))
            shown = name if mode == MODES[0] else ""
            table.add_row(shown, str(mode), f"{share:.3f}", f"{expected:.3f}", used, str(held))
    run.console.print(table)
    return {"rows": rows}


BENCHMARK = Benchmark(
    "pipeline_rate",
    "how close the engine comes to what its stages allow",
    4,
    measure,
    Settings(),
    quick=Settings(batches=8, unit=0.5),
)
