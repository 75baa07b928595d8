"""How well a TGN predicts links after a few epochs: ``mspipe train`` against PyG's example loop, over seeds."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch_geometric.data import TemporalData

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run, find_stream
from benchmarks.harness.workload import MSG_DIM, QUICK_EVENTS, Workload
from benchmarks.peers import pyg_loop
from benchmarks.peers.link_loop import LEARNING_RATE
from pyg_mspipe import NegativeSampler, TrainConfig, Trainer, load_stream

PYG = "PyG loop"
OPTION_SEEDS = 2


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``jobs`` trainings at once, a thread each."""

    stream: str = "wikipedia"
    seeds: int = 5
    epochs: int = 3
    jobs: int = 2


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
        command += ["--epochs", str(epochs), "--seed", str(task.seed), "--no-tensorboard", "--eval-negatives", "1"]
        command += task.flags
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
    negatives, val_negatives = trainer.batches("train").negatives, trainer.batches("val").negatives
    assert isinstance(negatives, NegativeSampler)
    assert isinstance(val_negatives, NegativeSampler)
    work = Workload(
        name=task.stream,
        data=data,
        num_nodes=trainer.num_nodes,
        train=split.train,
        val=split.val,
        batch_size=config.batch_size,
        negatives=negatives,
        val_negatives=val_negatives,
    )
    loop = pyg_loop.start(work, task.seed)
    aps = []
    for epoch in range(epochs):
        for _ in loop.train(epoch):
            pass
        aps.append(loop.evaluate().ap)
    return aps


def measure(settings: Settings, run: Run) -> Result:
    """Trains every variant on every stream with every seed."""
    with tempfile.TemporaryDirectory() as folder:
        files = _streams(find_stream(settings.stream), Path(folder), quick=run.quick)
        todo = _tasks(files, settings.seeds)[: 2 if run.quick else None]
        results = _run(todo, files, settings.epochs, settings.jobs, run.console)
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
    _print(run.console, rows)
    return {
        "batch_size": TrainConfig().batch_size,
        "lr": {PYG: LEARNING_RATE, "mspipe train": TrainConfig().lr},
        "cut_off": TrainConfig().cut_off,
        "negatives": "1 per event, uniform over the range of destinations",
        "metric": "validation AP after the last epoch, mean over batches",
        "rows": rows,
    }


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
    same_lr = f"{LEARNING_RATE:.0e}".replace("e-0", "e-")
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


BENCHMARK = Benchmark(
    "tgn_accuracy",
    "AP of a TGN after a few epochs against PyG's example loop",
    25,
    measure,
    Settings(),
    quick=replace(Settings(), seeds=1, epochs=1),
)
