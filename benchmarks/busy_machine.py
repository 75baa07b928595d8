"""How fast ``mspipe train`` is alone on a machine and beside other programs, by threads and by how long threads spin.

A thread of OpenMP that waits for the others spins first: it keeps its core, which on a busy machine is the one that the
others need. Every training is a process of its own, all of them in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run
from pyg_mspipe.data import synthetic

SPIN_COUNTS = (300_000, 100_000, 10_000, 1_000)
"""Turns of a waiting thread before it sleeps; GNU's OpenMP, which torch has on Linux, takes 300,000 by default."""

KINDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "all cores": ((), {}),  # with the turns that mspipe sets
    **{f"all cores with GOMP_SPINCOUNT={count}": ((), {"GOMP_SPINCOUNT": str(count)}) for count in SPIN_COUNTS},
    "all cores without spinning": ((), {"OMP_WAIT_POLICY": "passive"}),
    "one thread": (("--threads", "1"), {}),
}
"""What is compared, with flags and environment."""


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        steps: Training steps of each run.
        batch_sizes: Events in a batch.
        rounds: Runs of each kind.
        loops: Busy loops beside.
        kinds: What is compared, of :data:`KINDS`.
    """

    steps: int = 20
    batch_sizes: tuple[int, ...] = (200, 1000, 4000)
    rounds: int = 3
    loops: int = 2
    kinds: tuple[str, ...] = tuple(KINDS)


@contextmanager
def _beside(loops: int) -> Iterator[None]:
    """Runs busy loops meanwhile."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for loop in running:
            loop.kill()
            loop.wait()


def _rate(stream: Path, flags: tuple[str, ...], environment: dict[str, str]) -> float:
    """Trains an epoch, and returns its events per second."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pyg_mspipe", "train", str(stream), "--out", folder, "--epochs", "1"]
        command += ["--no-tensorboard", "--eval-negatives", "1", *flags]
        given = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given | environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text().splitlines())
        return next(float(line["rate"]) for line in lines if line["kind"] == "epoch")


def measure(settings: Settings, run: Run) -> Result:
    """Measures all kinds, alone and beside busy loops."""
    rows = []
    table = Table("batch", "kind", "beside", "events/s", title="busy machine")
    with tempfile.TemporaryDirectory() as folder:
        for batch_size in settings.batch_sizes:
            stream = Path(folder) / f"{batch_size}.npz"
            events = round(settings.steps * batch_size / 0.7)
            data = synthetic(events, num_src=max(50, events // 20), num_dst=max(50, events // 40), msg_dim=172)
            np.savez(stream, **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
            flags = ("--batch-size", str(batch_size))
            rates: dict[tuple[str, int], list[float]] = {}
            for _ in range(settings.rounds):
                for loops in (0, settings.loops):
                    with _beside(loops):
                        for kind in settings.kinds:
                            threads, environment = KINDS[kind]
                            rates.setdefault((kind, loops), []).append(_rate(stream, flags + threads, environment))
            for (kind, loops), each in rates.items():
                rows.append({"batch_size": batch_size, "kind": kind, "loops": loops, "events_per_s": each})
                table.add_row(f"{batch_size:,}", kind, f"{loops} loops", f"{median(each):,.0f}")
    run.console.print(table)
    return {"stream": "Synthetic streams with 172 features", "rows": rows}


BENCHMARK = Benchmark(
    "busy_machine",
    "training alone and beside busy loops, by threads and by how long they spin",
    24,
    measure,
    Settings(),
    quick=Settings(steps=2, batch_sizes=(50,), rounds=1, loops=1, kinds=("one thread",)),
)
