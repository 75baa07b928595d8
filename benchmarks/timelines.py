"""What the stages do at each moment, out of core: the records of some batches in each mode."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.pipeline_modes import WORKLOADS, Pass, Setting, Task
from pyg_mspipe.pipeline import Staleness

MODES: tuple[Staleness, ...] = ("sequential", "exact", "minimal")


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: so many batches are trained in each mode, and the last of them kept."""

    batches: int = 60
    kept: int = 24
    threads: int = 1


def measure(settings: Settings, run: Run) -> Result:
    """Trains in each mode and keeps records."""
    with tempfile.TemporaryDirectory() as folder:
        task = Task(WORKLOADS["disk"], Path(folder), quick=run.quick)
        modes = {}
        for mode in MODES:
            each = Pass(task, Setting(mode, "none", settings.threads))
            with closing(each.steps) as steps:  # type: ignore[type-var]
                for _ in islice(steps, settings.batches):
                    pass
            modes[str(mode)] = [asdict(record) for record in each.records[-settings.kept :]]
            run.console.print(f"{mode}: {len(modes[str(mode)])} records")
    return {"stream": task.name, "events": task.data.num_events, "batch_size": task.work.batch_size, "modes": modes}


BENCHMARK = Benchmark(
    "timelines",
    "what the stages do at each moment, in each mode",
    1,
    measure,
    Settings(),
    quick=Settings(batches=6, kept=4),
)
