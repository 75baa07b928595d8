"""What staleness costs in accuracy, and what mitigation repairs: all modes, and all mitigations at a bound of 4.

``model_accuracy`` is the table of MSPipe's paper: TGN, JODIE and APAN in the modes that it has there.

Each training is an ``mspipe train``. Fixed bounds run in line, where every batch misses as many commits as it may, so
that their staleness is a matter of the mode and not of the machine; ``exact`` and ``minimal`` run beside training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run, find_stream
from benchmarks.harness.workload import QUICK_EVENTS
from pyg_mspipe import TrainConfig, load_stream
from pyg_mspipe.memory import MitigationName

MITIGATIONS: tuple[str, ...] = get_args(MitigationName)


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``jobs`` trainings at once, a thread each."""

    streams: tuple[str, ...] = ("wikipedia", "collegemsg")
    seeds: int = 5
    epochs: int = 5
    jobs: int = 2
    models: tuple[str, ...] = ("tgn",)


@dataclass(frozen=True)
class Task:
    """One training."""

    stream: str
    model: str
    staleness: str
    mitigation: str
    seed: int


@dataclass
class Outcome:
    """What came of it: validation AP after each epoch, and how many batches had which staleness."""

    aps: list[float]
    staleness: Counter[int]


def train(task: Task, file: Path, epochs: int) -> Outcome:
    """Runs ``mspipe train`` and reads its log."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pyg_mspipe", "train", str(file), "--out", folder, "--no-tensorboard"]
        command += ["--threads", "1", "--epochs", str(epochs), "--seed", str(task.seed), "--patience", "0"]
        command += [
            "--model",
            task.model,
            "--staleness",
            task.staleness,
            "--mitigation",
            task.mitigation,
            "--eval-negatives",
            "1",
        ]
        command += ["--overlap", "never" if task.staleness.isdigit() else "always"]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    aps = [line["ap"] for line in lines if line["kind"] == "epoch"]
    return Outcome(aps, Counter(line["staleness"] for line in lines if line["kind"] == "stages"))


ALL = [
    *(("sequential", "none"), ("exact", "none")),
    *((staleness, each) for staleness in ("minimal", "1") for each in ("none", "similarity")),
    *(("4", each) for each in MITIGATIONS),
]
PAPERS = [("sequential", "none"), ("exact", "none"), ("minimal", "none"), ("4", "none"), ("4", "similarity")]


def tasks(streams: Sequence[str], settings: Settings, modes: Sequence[tuple[str, str]]) -> list[Task]:
    """Returns all trainings, seed after seed."""
    chosen = product(range(settings.seeds), streams, settings.models, modes)
    return [Task(stream, model, *mode, seed) for seed, stream, model, mode in chosen]


def measure(modes: Sequence[tuple[str, str]], settings: Settings, run: Run) -> Result:
    """Trains with every mode and mitigation, model, stream and seed."""
    # Each trains on one thread; what it starts inherits this.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        files = _files(settings.streams, Path(folder), quick=run.quick)
        todo = tasks(list(files), settings, modes)[: 2 if run.quick else None]
        outcomes = _run(todo, files, settings.epochs, settings.jobs, run.console)
    rows = _rows(outcomes)
    _print(run.console, rows)
    return {
        "batch_size": TrainConfig().batch_size,
        "lr": TrainConfig().lr,
        "metric": "validation AP after the last epoch, mean over batches",
        "rows": rows,
    }


def _files(streams: Sequence[str], folder: Path, *, quick: bool) -> dict[str, Path]:
    files = {}
    for stream in streams:
        path = find_stream(stream)
        name = path.stem if path else "synthetic"
        data = load_stream(path or name)
        if quick:
            data = data[:QUICK_EVENTS]
        file = folder / f"{name}.npz"
        np.savez(file, **{key: data[key].numpy() for key in ("src", "dst", "t", "msg")})
        files[name] = file
    return files


def _run(todo: Sequence[Task], files: dict[str, Path], epochs: int, jobs: int, console: Console) -> dict[Task, Outcome]:
    outcomes = {}
    with ThreadPoolExecutor(jobs) as pool:  # each waits for a process of its own
        running = {pool.submit(train, task, files[task.stream], epochs): task for task in todo}
        for number, done in enumerate(as_completed(running), start=1):
            task = running[done]
            outcomes[task] = done.result()
            ap = outcomes[task].aps[-1]
            console.print(
                f"{number}/{len(todo)} {task.stream}, {task.model}, {task.staleness}, {task.mitigation}, "
                f"seed {task.seed}: {ap:.4f}"
            )
    return {task: outcomes[task] for task in todo}


def _rows(outcomes: dict[Task, Outcome]) -> list[dict[str, object]]:
    """Returns a row for each stream, model, mode and mitigation; differences to ``sequential`` are of the same seed."""
    settings: dict[tuple[str, str, str, str], list[Outcome]] = {}
    for task in sorted(outcomes, key=lambda task: task.seed):
        settings.setdefault((task.stream, task.model, task.staleness, task.mitigation), []).append(outcomes[task])
    rows = []
    for (stream, model, staleness, mitigation), each in settings.items():
        last = [outcome.aps[-1] for outcome in each]
        reference = [outcome.aps for outcome in settings[stream, model, "sequential", "none"]]
        differences = [own - other[-1] for own, other in zip(last, reference, strict=True)]
        counts = sum((outcome.staleness for outcome in each), Counter[int]())
        rows.append(
            {
                "stream": stream,
                "model": model,
                "staleness": staleness,
                "mitigation": mitigation,
                "mean_ap": fmean(last),
                "stdev_ap": stdev(last) if len(last) > 1 else 0.0,
                "mean_difference_to_sequential": fmean(differences),
                "stdev_difference": stdev(differences) if len(last) > 1 else 0.0,
                "equal_to_sequential": [outcome.aps for outcome in each] == reference,
                "batches_by_staleness": {str(key): counts[key] for key in sorted(counts)},
                "ap_by_seed_and_epoch": [outcome.aps for outcome in each],
            }
        )
    return rows


def _print(console: Console, rows: list[dict[str, object]]) -> None:
    table = Table(
        "stream", "model", "staleness", "mitigation", "AP", "sd", "minus sequential, points", "equal", "missed"
    )
    for row in rows:
        figures = f"{row['mean_ap']:.4f}", f"{row['stdev_ap']:.4f}"
        points = f"{100 * row['mean_difference_to_sequential']:+.2f}"  # type: ignore[operator]
        used = " ".join(f"{key}:{count}" for key, count in row["batches_by_staleness"].items())  # type: ignore[attr-defined]
        names = [str(row[key]) for key in ("stream", "model", "staleness", "mitigation")]
        table.add_row(*names, *figures, points, "yes" if row["equal_to_sequential"] else "no", used)
    console.print(table)


BENCHMARK = Benchmark(
    "pipeline_accuracy",
    "AP of every mode, and of every mitigation",
    45,
    partial(measure, ALL),
    Settings(),
    quick=Settings(streams=("synthetic",), seeds=1, epochs=1),
)

MODELS = Benchmark(
    "model_accuracy",
    "AP of TGN, JODIE and APAN in the modes of MSPipe's table",
    40,
    partial(measure, PAPERS),
    Settings(seeds=3, epochs=3, models=("tgn", "jodie", "apan")),
    quick=Settings(streams=("synthetic",), seeds=1, epochs=1, models=("jodie",)),
)
