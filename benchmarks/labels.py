"""Labels: nodes and events classified, and node properties told, each beside what needs no network.

- ``node_labels``: who is banned from Wikipedia, with the embedding frozen after links and trained together, beside a
  logistic regression on what a node did so far.
- ``edge_labels``: where a source of the synthetic stream turns to a new interest, beside the commonest class.
- ``node_properties``: how the next three days of a source of the synthetic stream are shared out, beside the mean of
  its last labels and its last label, as in TGB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch_geometric.data import TemporalData

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.workload import QUICK_EVENTS
from pyg_mspipe import TrainConfig, Trainer, load_stream, split_stream, synthetic
from pyg_mspipe.data import Labels, StreamSplit
from pyg_mspipe.training import load_checkpoint

DAY, AHEAD = 86_400, 3
Scored = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """Of these benchmarks: each seed is a training of its own."""

    seeds: int = 3
    epochs: int = 5
    batch_size: int = 200
    model: str = "tgn"
    threads: int = 2


def measure_nodes(settings: Settings, run: Run) -> Result:
    """Tells the labels of Wikipedia's users."""
    path = find_stream("wikipedia")
    data = load_stream(path or "synthetic")
    if path is None or run.quick:
        data = data[:QUICK_EVENTS]
    if run.quick:  # of the few first labels not all parts have both
        data.y = (torch.rand(data.num_events, generator=torch.Generator().manual_seed(0)) < 0.05).long()
    split = split_stream(data)
    rows = {"logistic regression on activity": [_by_activity(data, split)]}
    for seed in range(settings.seeds):
        with tempfile.TemporaryDirectory() as folder:
            links = Path(folder, "links")
            Trainer(data, _config(settings, seed), links).fit()
            ways: dict[str, dict[str, Any]] = {
                "frozen after links": {"embeddings": str(links)},
                "together": {"lr": 1e-4},
            }
            for name, more in ways.items():
                config = _config(settings, seed, task="node", class_weights="balanced", patience=0, **more)
                rows.setdefault(name, []).append(_test(data, config, Path(folder, name)))
                run.console.print(f"seed {seed}, {name}: {rows[name][-1]}")
    positives = {
        part: int(data.y[getattr(split, part).start : getattr(split, part).stop].sum()) for part in vars(split)
    }
    return _result(run, path.stem if path else "synthetic", rows, {"positives": positives})


def measure_edges(settings: Settings, run: Run) -> Result:
    """Tells where sources turn to something new."""
    rows: dict[str, list[Scored]] = {}
    for seed in range(settings.seeds):
        data = synthetic(QUICK_EVENTS if run.quick else 20_000, labels=True, seed=seed)
        test = data.y[split_stream(data).test.start :]
        rows.setdefault("the commonest class for all", []).append({"auc": 0.5, "ap": float(test.float().mean())})
        with tempfile.TemporaryDirectory() as folder:
            config = _config(settings, seed, task="edge", class_weights="balanced", lr=1e-3)
            rows.setdefault(settings.model, []).append(_test(data, config, Path(folder)))
            run.console.print(f"seed {seed}: {rows[settings.model][-1]}")
    return _result(run, "synthetic", rows, {})


def measure_properties(settings: Settings, run: Run) -> Result:
    """Tells how the next three days of sources are shared out."""
    rows: dict[str, list[Scored]] = {}
    for seed in range(settings.seeds):
        data = synthetic(QUICK_EVENTS if run.quick else 20_000, num_src=300, num_dst=200, seed=seed)
        labels, split = shares_ahead(data, 300, 25), split_stream(data)
        rows.setdefault("persistent forecast", []).append(_by_past(labels, split, 1))
        rows.setdefault("moving average of 7", []).append(_by_past(labels, split, 7))
        with tempfile.TemporaryDirectory() as folder:
            config = _config(settings, seed, task="property", lr=1e-3)
            rows.setdefault(settings.model, []).append(_test(data, config, Path(folder), labels))
            run.console.print(f"seed {seed}: {rows[settings.model][-1]}")
    return _result(run, "synthetic", rows, {})


def shares_ahead(data: TemporalData, num_src: int, num_kinds: int) -> Labels:
    """Returns labels like TGB's ``tgbn-*``: each day, how the three days from there on are shared out among kinds.

    Args:
        data: A synthetic stream.
        num_src: How many sources it has.
        num_kinds: How many kinds of destinations.
    """
    kind, node, t, y = (data.dst - num_src) % num_kinds, [], [], []
    for day in range(1, int(data.t[-1]) // DAY - AHEAD + 1):
        coming = (data.t >= day * DAY) & (data.t < (day + AHEAD) * DAY)
        count = torch.zeros(num_src, num_kinds)
        count.index_put_((data.src[coming], kind[coming]), torch.ones(()), accumulate=True)
        active = count.sum(1).nonzero().view(-1)
        node.append(active)
        t.append(torch.full_like(active, day * DAY))
        y.append(count[active] / count[active].sum(1, keepdim=True))
    return Labels.at(data, torch.cat(node), torch.cat(t), torch.cat(y))


def _config(settings: Settings, seed: int, **more: Any) -> TrainConfig:
    common: dict[str, Any] = {
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "model": settings.model,
        "seed": seed,
    }
    return TrainConfig(**common | {"threads": settings.threads, "tensorboard": False, "eval_negatives": 1} | more)


def _test(data: TemporalData, config: TrainConfig, folder: Path, labels: Labels | None = None) -> Scored:
    trainer = Trainer(data, config, folder, labels=labels)
    trainer.fit()
    found = asdict(trainer.test(load_checkpoint(folder / "best.pt"))["test"])
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _by_activity(data: TemporalData, split: StreamSplit) -> Scored:
    """Scores the test by counts: of a node's events and of its nodes met so far, and how long ago the last one was."""
    known: dict[int, tuple[int, int, set[int]]] = {}
    rows = np.empty((data.num_events, 3))
    for event, (src, dst, t) in enumerate(zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), strict=True)):
        count, last, met = known.get(src, (0, t, set()))
        rows[event] = np.log1p([count, len(met), t - last])
        known[src] = count + 1, t, met | {dst}
    train, test = (slice(part.start, part.stop) for part in (split.train, split.test))
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(rows[train], data.y[train])
    score = model.predict_proba(rows[test])[:, 1]
    return {"auc": roc_auc_score(data.y[test], score), "ap": average_precision_score(data.y[test], score)}


def _by_past(labels: Labels, split: StreamSplit, window: int) -> Scored:
    """Scores the test by the mean of a node's last labels."""
    past: dict[int, list[Tensor]] = {}
    test, told = labels.rows(split.test), []
    for row, (node, y) in enumerate(zip(labels.node.tolist(), labels.y, strict=True)):
        own = past.setdefault(node, [])
        if row >= test.start:
            told.append(torch.stack(own[-window:]).mean(0) if own else torch.zeros_like(y))
        own.append(y)
    return {"ndcg": float(ndcg_score(labels.y[test], torch.stack(told), k=10))}


def _result(run: Run, stream: str, rows: dict[str, list[Scored]], more: dict[str, Any]) -> Result:
    names = list(next(iter(rows.values()))[0])
    table = Table("", *names)
    found = []
    for label, each in rows.items():
        means = {name: fmean(scored[name] for scored in each) for name in names}
        spreads = {name: stdev(scored[name] for scored in each) if len(each) > 1 else 0.0 for name in names}
        found.append({"what": label, "mean": means, "stdev": spreads, "by_seed": each})
        table.add_row(label, *(f"{means[name]:.4f} ± {spreads[name]:.4f}" for name in names))
    run.console.print(table)
    return {"stream": stream, "part": "test", "rows": found, **more}


def _benchmark(
    name: str, about: str, minutes: float, measure: Callable[[Settings, Run], Result]
) -> Benchmark[Settings]:
    return Benchmark(name, about, minutes, measure, Settings(), quick=Settings(seeds=1, epochs=1, threads=1))


NODES = _benchmark("node_labels", "AUC of banned users, frozen and together", 10, measure_nodes)
EDGES = _benchmark("edge_labels", "AUC of labels of events", 1, measure_edges)
PROPERTIES = _benchmark("node_properties", "NDCG@10 of node properties", 1, measure_properties)
