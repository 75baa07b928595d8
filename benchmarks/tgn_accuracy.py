"""How well a TGN predicts links after a few epochs: ``mspipe train`` against PyG's example loop, over seeds.

python -m benchmarks.tgn_accuracy [--stream PATH] [--seeds 5] [--epochs 3] [--jobs 2] [--quick]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch_geometric.data import TemporalData

from benchmarks.machine import describe_machine
from benchmarks.peers import pyg_loop
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT, WIKIPEDIA
from benchmarks.workload import MSG_DIM, QUICK_EVENTS, Workload
from pyg_mspipe import TrainConfig, Trainer, load_stream

PYG = "PyG loop"
OPTION_SEEDS = 2


@dataclass(frozen=True)
class Task:
    """One training: a variant on a stream with a seed; ``flags`` are for ``mspipe train``."""

    stream: str
    variant: str
    seed: int
    flags: tuple[str, ...] = ()


def mspipe_train(task: Task, file: Path, epochs: int) -> list[float]:
    """Returns the validation AP after each epoch, as ``mspipe train`` logs it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pyg_mspipe", "train", str(file), "--out", folder, "--threads", "1"]
        command += ["--epochs", str(epochs), "--seed", str(task.seed), "--no-tensorboard", *task.flags]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [line["ap"] for line in map(json.loads, lines) if line["kind"] == "epoch"]


def pyg_train(task: Task, file: Path, epochs: int) -> list[float]:
    """Returns the validation AP of PyG's loop after each epoch, on the split and negatives of ``mspipe train``."""
    torch.set_num_threads(1)
    trainer = Trainer(load_stream(file), TrainConfig(seed=task.seed, threads=1))
    data = trainer.data
    if data.msg.size(1) == 0:
        # PyG's memory cannot do without a message; one constant column says nothing.
        data = TemporalData(src=data.src, dst=data.dst, t=data.t, msg=torch.zeros(data.num_events, 1))
    split, config = trainer.split, trainer.config
    work = Workload(
        name=task.stream,
        data=data,
        num_nodes=trainer.model.memory.num_nodes,
        train=split.train,
        val=split.val,
        batch_size=config.batch_size,
        negatives=trainer.batches("train").negatives,
        val_negatives=trainer.batches("val").negatives,
    )
    loop = pyg_loop.start(work, task.seed)
    aps = []
    for epoch in range(epochs):
        for _ in loop.train(epoch):
            pass
        aps.append(loop.evaluate().ap)
    return aps


def main() -> None:
    """Trains every variant on every stream with every seed, prints the table and writes the results."""
    args = _parse()
    console = Console()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        files = _streams(args.stream, Path(folder), quick=args.quick)
        results = _run(_tasks(files, args.seeds), files, args.epochs, args.jobs, console)
    rows = [
        {
            "stream": stream,
            "variant": variant,
            "ap_by_seed": aps,
            "mean_ap_by_epoch": [fmean(each) for each in zip(*aps, strict=True)],
            "mean_ap": fmean(each[-1] for each in aps),
            "stdev_ap": stdev([each[-1] for each in aps]) if len(aps) > 1 else 0.0,
        }
        for (stream, variant), aps in results.items()
    ]
    _print(console, rows)
    result = {
        "benchmark": "tgn_accuracy",
        "machine": machine | {"threads": 1, "jobs": args.jobs},
        "epochs": args.epochs,
        "seeds": args.seeds,
        "batch_size": TrainConfig().batch_size,
        "lr": {PYG: pyg_loop.LEARNING_RATE, "mspipe train": TrainConfig().lr},
        "cut_off": TrainConfig().cut_off,
        "negatives": "1 per event, uniform over the range of destinations",
        "metric": "validation AP after the last epoch, mean over batches",
        "rows": rows,
    }
    path = ROOT / "benchmarks" / "results" / f"tgn_accuracy{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


def _streams(path: Path | None, folder: Path, *, quick: bool) -> dict[str, Path]:
    """Writes the stream as it is and, where it has no features, with seeded normal ones."""
    data = load_stream(path) if path else load_stream("synthetic", msg_dim=0)
    name = path.stem.capitalize() if path else "Synthetic stream"
    if quick:
        data = data[:QUICK_EVENTS]
    arrays = {key: data[key].numpy() for key in ("src", "dst", "t")}
    files = {}
    if data.msg.size(1):
        files[name] = arrays | {"msg": data.msg.numpy()}
    else:
        features = torch.randn(data.num_events, MSG_DIM, generator=torch.Generator().manual_seed(0))
        files[f"{name}, no features"] = arrays
        files[f"{name}, synthetic features"] = arrays | {"msg": features.numpy()}
    out = {}
    for number, (title, content) in enumerate(files.items()):
        out[title] = folder / f"stream{number}.npz"
        np.savez(out[title], **content)
    return out


def _tasks(files: dict[str, Path], seeds: int) -> list[Task]:
    same_lr = f"{pyg_loop.LEARNING_RATE:.0e}".replace("e-0", "e-")
    main: dict[str, tuple[str, ...]] = {
        PYG: (),
        "mspipe train": (),
        f"mspipe train --lr {same_lr}": ("--lr", same_lr),
    }
    options: dict[str, tuple[str, ...]] = {
        "mspipe train --time-init log": ("--time-init", "log"),
        "mspipe train --precision bf16": ("--precision", "bf16"),
    }
    # Options are compared on the stream with features, and on fewer seeds.
    featured = list(files)[-1]
    return [
        Task(stream, name, seed, flags)
        for seed in range(seeds)
        for stream in files
        for name, flags in (main | (options if stream == featured and seed < OPTION_SEEDS else {})).items()
    ]


def _run(
    tasks: Sequence[Task], files: dict[str, Path], epochs: int, jobs: int, console: Console
) -> dict[tuple[str, str], list[list[float]]]:
    aps: dict[Task, list[float]] = {}
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(
                partial(pyg_train if task.variant == PYG else mspipe_train, task, files[task.stream], epochs)
            ): task
            for task in tasks
        }
        for done, future in enumerate(as_completed(futures), start=1):
            task = futures[future]
            aps[task] = future.result()
            shown = " ".join(f"{ap:.4f}" for ap in aps[task])
            console.print(f"{done}/{len(tasks)}  {task.stream}  {task.variant}  seed {task.seed}: AP {shown}")
    results: dict[tuple[str, str], list[list[float]]] = {}
    for task in tasks:
        results.setdefault((task.stream, task.variant), []).append(aps[task])
    return results


def _print(console: Console, rows: Sequence[dict[str, object]]) -> None:
    table = Table("stream", "variant", "mean AP by epoch", "sd of the last", title="Validation AP")
    for row in rows:
        by_epoch = row["mean_ap_by_epoch"]
        assert isinstance(by_epoch, list)
        shown = " ".join(f"{ap:.4f}" for ap in by_epoch)
        table.add_row(str(row["stream"]), str(row["variant"]), shown, f"{row['stdev_ap']:.4f}")
    console.print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tgn_accuracy", description="Validation AP against PyG.")
    default = WIKIPEDIA if WIKIPEDIA.exists() else None
    parser.add_argument("--stream", type=Path, default=default, help="default: %(default)s; None is synthetic")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each variant (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, a thread each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the first few thousand events, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
