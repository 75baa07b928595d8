"""Trainings as a user starts them, in processes of one thread each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.harness.benchmark import ROOT
from pyg_mspipe import ParallelPlan

SINGLE = "1x1x1"
STATIC = ("--static-dim", "100")


@dataclass(frozen=True)
class Training:
    """One ``mspipe train``, by torchrun where its plan has several processes, evaluated with one negative an event.

    Attributes:
        stream: A file or a name.
        plan: ``i x j x k``.
        seed: Of everything random.
        epochs: How often each event is trained.
        flags: Others of ``mspipe train``.
    """

    stream: str
    plan: str = SINGLE
    seed: int = 0
    epochs: int = 1
    flags: tuple[str, ...] = ()

    def __call__(self, kind: str = "epoch") -> list[dict[str, Any]]:
        """Trains and returns the lines of one kind of the metrics file.

        Raises:
            RuntimeError: If it fails.
        """
        plan = ParallelPlan.parse(self.plan)
        with tempfile.TemporaryDirectory() as folder:
            start = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(plan.world), "-m"]
            alone = plan.world == 1 or "--emulate" in self.flags
            command = [sys.executable, "-m", *([] if alone else start), "pyg_mspipe", "train", self.stream]
            command += ["--out", folder, "--parallel", self.plan, "--threads", "1", "--epochs", str(self.epochs)]
            command += ["--seed", str(self.seed), "--patience", "0", "--no-tensorboard", "--eval-negatives", "1"]
            command += self.flags
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == kind]


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Returns the mean and the standard deviation of a sample, which is 0 for a single value."""
    return fmean(values), stdev(values) if len(values) > 1 else 0.0
