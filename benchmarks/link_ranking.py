"""Test MRR by TGB's protocol of models, of heads that read more of a pair than its embeddings, and of baselines."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.table import Table
from torch_geometric.data import TemporalData

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.training_clock import TrainingClock
from benchmarks.harness.workload import QUICK_EVENTS
from pyg_mspipe import Batches, NeighborSampler, TemporalCSR, TrainConfig, Trainer, load_stream, split_stream, synthetic
from pyg_mspipe.data import EventGroups, Negatives, Positives
from pyg_mspipe.tasks import Baselines, LinkMetrics, evaluate_baselines
from pyg_mspipe.tasks.protocols import tgb_candidates
from pyg_mspipe.training import load_checkpoint
from pyg_mspipe.training.run_folder import BEST

KINDS: dict[str, dict[str, Any]] = {
    "TGN": {},
    "TGN, pair features": {"pair_features": True},
    "TGN, common neighbours": {"head": "common"},
    "TGN, common neighbours and pair features": {"head": "common", "pair_features": True},
    "JODIE": {"model": "jodie"},
    "APAN": {"model": "apan"},
}
"""What is trained, with its settings."""


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        streams: Streams by name.
        kinds: What is trained, of :data:`KINDS`.
        seeds: Trainings of each.
        epochs: Passes over the training events.
        batch_size: Events in a batch.
        negatives: Negatives of each event, by TGB's rule.
        workers: Processes that train side by side, each with one thread.
    """

    streams: tuple[str, ...] = ("wikipedia", "collegemsg", "enron", "synthetic")
    kinds: tuple[str, ...] = tuple(KINDS)
    seeds: int = 3
    epochs: int = 3
    batch_size: int = 200
    negatives: int = 100
    workers: int = 2


def load(name: str, *, quick: bool) -> TemporalData:
    """Returns a stream without features, or the synthetic one where there is no such file."""
    path = find_stream(name)
    data = load_stream(path) if path else synthetic(20_000)
    if quick:
        data = data[: QUICK_EVENTS // 4]
    data.msg = torch.empty(data.num_events, 0)
    return data


def train(name: str, kind: str, seed: int, settings: Settings, quick: bool) -> dict[str, Any]:
    """Trains one model in this process, and returns its row."""
    torch.set_num_threads(1)
    data = load(name, quick=quick)
    config = TrainConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        patience=0,
        seed=seed,
        threads=1,
        protocol="tgb",
        eval_negatives=settings.negatives,
        best_by="mrr",
        checkpoint_every=0,
        tensorboard=False,
        **KINDS[kind],
    )
    clock = TrainingClock()
    split = split_stream(data)
    lists = {
        part: tgb_candidates(data, split.train, getattr(split, part), settings.negatives, seed=0)
        for part in ("val", "test")
    }

    def among(at: Positives) -> Negatives:
        return lists["test" if at.events.start >= split.test.start else "val"](at)

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(data, config, folder, listeners=[clock], eval_negatives=among)
        trainer.fit()
        metrics = trainer.test(load_checkpoint(Path(folder, BEST)))["test"]
    assert isinstance(metrics, LinkMetrics)
    row = {"stream": name, "name": kind, "seed": seed, "train_seconds": sum(clock.seconds)}
    return row | {"mrr": metrics.mrr, "hits_10": metrics.hits_10, "ap_micro": metrics.ap_micro}


def baselines(name: str, settings: Settings, quick: bool) -> list[dict[str, Any]]:
    """Returns the rows of what needs no training."""
    data = load(name, quick=quick)
    split = split_stream(data)
    lists = tgb_candidates(data, split.train, split.test, settings.negatives, seed=0)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [])
    batches = Batches(data, split.test, settings.batch_size, sampler, lists)
    found = evaluate_baselines(Baselines.of(data, split.train), batches, EventGroups.of(data, split))
    return [
        {"stream": name, "name": each.replace("_", " "), "seed": None, "train_seconds": None}
        | {"mrr": metrics.mrr, "hits_10": metrics.hits_10, "ap_micro": metrics.ap_micro}
        for each, metrics in found.items()
    ]


def measure(settings: Settings, run: Run) -> Result:
    """Trains all kinds on all streams with all seeds."""
    rows: list[dict[str, Any]] = []
    todo = [
        (name, kind, seed, settings, run.quick)
        for name in settings.streams
        for kind in settings.kinds
        for seed in range(settings.seeds)
    ]
    if settings.workers > 1:
        with ProcessPoolExecutor(settings.workers) as pool:
            waiting = [pool.submit(train, *each) for each in todo]
            for each in waiting:
                rows.append(each.result())
                run.console.print(f"{rows[-1]}")
    else:
        rows += [train(*each) for each in todo]
    for name in settings.streams:
        rows += baselines(name, settings, run.quick)
    table = Table("", *settings.streams, title=f"test MRR among {settings.negatives} negatives")
    for kind in dict.fromkeys(row["name"] for row in rows):
        found = [
            [row["mrr"] for row in rows if (row["name"], row["stream"]) == (kind, name)] for name in settings.streams
        ]
        table.add_row(kind, *(f"{fmean(each):.4f}" for each in found))
    run.console.print(table)
    return {"rows": rows}


BENCHMARK = Benchmark(
    "link_ranking",
    "test MRR by TGB's protocol of models, heads and baselines",
    25,
    measure,
    Settings(),
    quick=Settings(
        streams=("wikipedia",),
        kinds=("TGN, pair features",),
        seeds=1,
        epochs=1,
        batch_size=100,
        negatives=10,
        workers=1,
    ),
)
