"""Events/s of many trainers against one, and what it costs a trainer to wait."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import SINGLE, Training
from pyg_mspipe import ParallelPlan


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: a round is a sweep of each plan, begun with another one each time."""

    stream: str = "wikipedia"
    plans: tuple[str, ...] = (SINGLE, "1x1x2", "1x2x1", "2x1x1", "1x2x2")
    rounds: int = 6


def measure(settings: Settings, run: Run) -> Result:
    """Trains each event as often as a plan does in a sweep, in turns.

    Each process has one thread, and prepares its batches in it; the pipeline of a single one, on another core, is
    another row, and so are two single ones beside each other that share nothing but the machine.
    """
    stream = str(find_stream(settings.stream) or "synthetic")
    rows: dict[str, tuple[str, str, int]] = {plan: (plan, "never", 1) for plan in settings.plans}
    rows |= {f"{SINGLE}, overlap": (SINGLE, "always", 1), f"{SINGLE}, twice": (SINGLE, "never", 2)}
    rates: dict[str, list[float]] = {label: [] for label in rows}
    for turn in range(settings.rounds):
        for place in range(len(rows)):
            label = list(rows)[(turn + place) % len(rows)]
            plan, overlap, runs = rows[label]
            epochs = ParallelPlan.parse(plan).epochs_per_sweep
            training = Training(stream, plan, epochs=epochs, flags=("--overlap", overlap))
            with ThreadPoolExecutor(runs) as pool:
                rate = sum(lines[0]["rate"] for lines in pool.map(Training.__call__, [training] * runs))
            rates[label].append(rate)
            run.console.print(f"round {turn + 1}  {label}  {rate:,.0f} events/s")
    results = [
        {
            "plan": label,
            "events_per_second": each,
            "median": median(each),
            "ratio": median(each) / median(rates[SINGLE]),
            "ratio_within_rounds": median(own / single for own, single in zip(each, rates[SINGLE], strict=True)),
        }
        for label, each in rates.items()
    ]
    table = Table("plan", "events/s", "ratio", "within rounds")
    for row in results:
        figures = f"{row['median']:,.0f}", f"{row['ratio']:.2f}", f"{row['ratio_within_rounds']:.2f}"
        table.add_row(str(row["plan"]), *figures)
    run.console.print(table)
    waiting = _waiting()
    run.console.print(
        f"a trainer that waits takes {waiting['collective']:.1%} of a core, for a turn {waiting['turn']:.1%}"
    )
    return {"stream": settings.stream, "batch_size": 200, "waiting": waiting, "rows": results}


def _waiting() -> dict[str, float]:
    """Returns the share of a core that a waiting trainer takes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "-m", "benchmarks.parallel_waiting"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    collective, turn = map(float, done.stdout.split()[-2:])
    return {"collective": collective, "turn": turn}


BENCHMARK = Benchmark(
    "parallel_rate",
    "events/s of many trainers against one, and what waiting costs",
    19,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", plans=(SINGLE,), rounds=1),
)
