"""Events/s of many trainers against one, and what it costs a trainer to wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import SINGLE
from benchmarks.harness.turns import PacedTraining, take_turns
from pyg_mspipe.tasks.objective import LOSS_BLOCK

TWICE = f"{SINGLE}, twice"
SLOWER = f"{SINGLE}, twice, the slower"
_SHOWN = 5


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: in a round one trainer, and each plan, train so many blocks of 20 steps, a second or two."""

    stream: str = "wikipedia"
    plans: tuple[str, ...] = ("1x1x2", "1x2x1", "2x1x1", "1x2x2")
    batch_size: int = 200
    layers: int = 1
    blocks: int = 3
    rounds: int = 40


def measure(settings: Settings, run: Run) -> Result:
    """Trains some batches by each plan, in turns.

    Each process has one thread, and prepares its batches in it; the pipeline of a single one, on another core, is
    another row, and so are two single ones beside each other that share nothing but the machine. Twice the rate of
    the slower of these in each round is about what trainers that wait for each other could reach with nothing to send.
    """
    stream = str(find_stream(settings.stream) or "synthetic")
    training = partial(
        PacedTraining, stream, batch_size=settings.batch_size, layers=settings.layers, blocks=settings.blocks
    )
    rows = {plan: [training(plan)] for plan in (SINGLE, *settings.plans)}
    rows[f"{SINGLE}, overlap"] = [training(SINGLE, overlap="always")]
    rows[TWICE] = 2 * [training(SINGLE)]
    rates: dict[str, list[float]] = {label: [] for label in (*rows, SLOWER)}
    for turn, each in enumerate(take_turns(rows, settings.rounds), start=1):
        for label, rate in each.items():
            rates[label].append(round(sum(rate), 1))
        rates[SLOWER].append(round(2 * min(each[TWICE]), 1))
        if turn % _SHOWN == 0 or turn == settings.rounds:
            shown = (f"{label} {rate[-1]:,.0f}" for label, rate in rates.items())
            run.console.print(f"round {turn}  {'  '.join(shown)}")
    results = _against_single(rates)
    table = Table("plan", "events/s", "ratio", "within rounds")
    for row in results:
        figures = f"{row['median']:,.0f}", f"{row['ratio']:.2f}", f"{row['ratio_within_rounds']:.2f}"
        table.add_row(str(row["plan"]), *figures)
    run.console.print(table)
    waiting = _waiting(0.2 if run.quick else 5.0)
    run.console.print(
        f"a trainer that waits takes {waiting['collective']:.1%} of a core, for a turn {waiting['turn']:.1%}"
    )
    return {
        "stream": Path(stream).stem,
        "batch_size": settings.batch_size,
        "layers": settings.layers,
        "batches_a_turn": settings.blocks * LOSS_BLOCK,
        "waiting": waiting,
        "rows": results,
    }


def _against_single(rates: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Returns a row for each plan: its rates, and their ratio to those of one trainer, of medians and within rounds."""
    single = rates[SINGLE]
    return [
        {
            "plan": label,
            "events_per_second": each,
            "median": median(each),
            "ratio": median(each) / median(single),
            "ratio_within_rounds": median(own / other for own, other in zip(each, single, strict=True)),
        }
        for label, each in rates.items()
    ]


def _waiting(seconds: float) -> dict[str, float]:
    """Returns the share of a core that a trainer takes that waits for so many seconds."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, "-m", "benchmarks.parallel_waiting", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    collective, turn = map(float, done.stdout.split()[-2:])
    return {"collective": collective, "turn": turn}


BENCHMARK = Benchmark(
    "parallel_rate",
    "events/s of many trainers against one, and what waiting costs",
    9,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", plans=("1x1x2",), blocks=1, rounds=1),
)

TWO_LAYERS = Benchmark(
    "parallel_rate_two_layers",
    "events/s of many trainers with two layers and batches of 600",
    5,
    measure,
    # With the turn that does not count, two sweeps of one trainer.
    Settings(plans=("1x1x2", "1x2x1", "2x1x1"), batch_size=600, layers=2, blocks=1, rounds=19),
    quick=Settings(stream="synthetic", plans=("1x1x2",), layers=2, blocks=1, rounds=1),
)
