"""Whether processes have the losses of their emulation, for every plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import Training
from pyg_mspipe import ParallelPlan
from pyg_mspipe.distributed.plan import shapes


@dataclass(frozen=True)
class Settings:
    """Of this benchmark."""

    stream: str = "collegemsg"
    plans: tuple[str, ...] = tuple(str(plan) for world in (2, 4) for plan in shapes(world))


def measure(settings: Settings, run: Run) -> Result:
    """Compares the losses of a sweep with those of the emulator."""
    stream = str(find_stream(settings.stream) or "synthetic")
    rows = []
    for plan in settings.plans:
        training = Training(stream, plan, epochs=ParallelPlan.parse(plan).epochs_per_sweep)
        losses = [line["loss"] for line in training("batch")]
        emulated = [line["loss"] for line in replace(training, flags=("--emulate",))("batch")]
        apart = max(abs(a - b) for a, b in zip(losses, emulated, strict=True))
        rows.append({"plan": plan, "steps": len(losses), "largest_difference": apart})
        run.console.print(f"{plan}: {len(losses)} steps, at most {apart:.1e} apart")
    return {"stream": Path(stream).stem, "batch_size": 200, "rows": rows}


BENCHMARK = Benchmark(
    "parallel_equality",
    "losses of many processes against those of their emulation",
    6,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", plans=("1x1x2",)),
)
