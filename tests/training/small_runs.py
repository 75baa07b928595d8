"""Runs that take a moment, and what is left of them on disk."""

import json
import shutil
from pathlib import Path

import torch
from torch_geometric.data import TemporalData

from pyg_mspipe.data import synthetic
from pyg_mspipe.distributed import EmulatedExecutor
from pyg_mspipe.tasks import Ranking, link_metrics
from pyg_mspipe.training import Event, Saved, SingleExecutor, TrainConfig, Trainer, load_checkpoint

# 11 training batches in an epoch.
SIZES = {"epochs": 2, "batch_size": 40, "lr": 1e-3, "memory_dim": 8, "time_dim": 8, "embedding_dim": 8}
SETTINGS = {**SIZES, "num_neighbors": 4, "eval_negatives": 3, "checkpoint_every": 4, "tensorboard": False}


def small_stream(**options: int) -> TemporalData:
    return synthetic(**{"num_events": 600, "num_src": 40, "num_dst": 40, "msg_dim": 4} | options)


def uneven_stream() -> TemporalData:
    """A stream with 421 training events: with 35 in a part, the last batch of 1, 2 or 4 parts has one event."""
    return small_stream(num_events=601)


def small_config(**settings: object) -> TrainConfig:
    return TrainConfig(**{**SETTINGS, **settings})  # type: ignore[arg-type]


def read_log(folder: Path) -> list[dict]:
    """The lines of a run's log but for rates and the times of stages, which no run has twice."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] != "stages"]
    return [{name: value for name, value in line.items() if name != "rate"} for line in lines]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder) if line["kind"] == "batch"]


def contents(folder: Path) -> dict[str, dict]:
    """Both checkpoints but for the log's end, which the digits of rates decide."""
    both = {name: load_checkpoint(folder / name) for name in ("last.pt", "best.pt")}
    return {name: {key: value for key, value in each.items() if key != "log"} for name, each in both.items()}


def same(one: object, other: object) -> bool:
    """Whether two checkpoints, or parts of them, are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def resume(data: TemporalData, folder: Path) -> Trainer:
    return Trainer.resume(data, load_checkpoint(folder / "last.pt"), folder)


def emulated(data: TemporalData, config: TrainConfig, folder: Path | None = None, **options: object) -> Trainer:
    """A trainer that stands for all of a plan."""
    return Trainer(data, config, folder, executor=EmulatedExecutor(), **options)  # type: ignore[arg-type]


class BlindExecutor(SingleExecutor):
    """Does not validate, and so leaves the memory as training has left it."""

    def validate(self, on_batch):
        return link_metrics([Ranking.of(torch.zeros(2, 1))], range(1))


def photograph(event: Event) -> None:
    """Listens to a trainer and keeps the folder as it was when each last checkpoint had been written, beside it."""
    if isinstance(event, Saved) and event.path.name == "last.pt":
        folder = event.path.parent
        shutil.copytree(folder, folder.parent / f"at-{len(photographs(folder))}")


def photographs(folder: Path) -> list[Path]:
    """The copies of a run's folder, in the order in which they were taken."""
    return sorted(folder.parent.glob("at-*"), key=lambda path: int(path.name[3:]))
