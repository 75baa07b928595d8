"""How closely the built-in TGN follows PyG's example loop, batch by batch, and how closely PyG's loop follows itself.

Both train with the same initial weights (PyG's own), the same negatives and no dropout, and their losses are compared:

- lockstep: before each batch the model takes over PyG's weights; its memory and messages are its own.
- fixed time encoder: both train freely, but for the time encoder, which keeps its initial weights.
- hours: both train freely, on times in hours.
- free: both train freely.
- PyG against itself: both are PyG's loop, and one weight of one of them starts a last bit away.
- the same in float64: what no other order of the same sums can be expected to stay below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.table import Table
from torch_geometric.data import TemporalData

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.workload import Workload, load_workload
from benchmarks.peers import pyg_loop
from benchmarks.peers.link_loop import DIM, LEARNING_RATE, NUM_NEIGHBORS
from benchmarks.peers.pyg_loop import TGNLoop
from benchmarks.peers.stable_sort import stable_sort
from pyg_mspipe import TGN, Batches, LastAggregator, NeighborSampler, TemporalCSR
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step


@dataclass(frozen=True)
class Settings:
    """Of this benchmark."""

    stream: str = "wikipedia"
    batches: int = 200
    batch_size: int = 200


class Follower:
    """The built-in TGN, made with the weights of a PyG loop."""

    def __init__(self, loop: TGNLoop, work: Workload) -> None:
        self.loop = loop
        self.model = TGN(work.num_nodes, work.msg_dim, dropout=0.0, time_init="random")
        self.task = LinkPrediction(self.model.embedding_dim)
        self.objective = Objective(self.model, self.task)
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=LEARNING_RATE)
        sampler = NeighborSampler(TemporalCSR.from_stream(work.data, work.num_nodes), [NUM_NEIGHBORS])
        self.batches = Batches(work.data, work.train, work.batch_size, sampler, work.negatives)
        self.take_weights()

    def take_weights(self) -> None:
        """Copies PyG's weights as they are now."""
        loop, model = self.loop, self.model
        named = dict(model.memory.named_parameters())
        with torch.no_grad():
            for name, weight in loop.memory.named_parameters():
                named[name].copy_(weight)
        model.layers[0].load_state_dict(loop.gnn.conv.state_dict())
        self.task.head.load_state_dict(loop.link_pred.state_dict())

    def step(self, index: int) -> float:
        """Trains one batch and returns its loss."""
        batch = self.batches.read(0, index)
        return train_step(self.objective, batch, [self.optimizer], commit=self.model.update).item()


def follow(work: Workload, batches: int, *, lockstep: bool = False, fixed_time: bool = False) -> list[float]:
    """Returns by how much the losses of model and PyG's loop differ in each batch."""
    loop = pyg_loop.start(work, seed=0, dropout=0.0)
    loop.memory.aggr_module = LastAggregator()  # type: ignore[attr-defined]  # for its rule on ties
    follower = Follower(loop, work)
    if fixed_time:
        for module in (loop.memory, follower.model.memory):
            for weight in module.time_enc.parameters():
                weight.requires_grad_(False)
    out = []
    losses = loop.train(0)
    for index in range(batches):
        if lockstep:
            follower.take_weights()
        own = follower.step(index)
        out.append(abs(next(losses) - own))
    return out


def follow_itself(work: Workload, batches: int) -> list[float]:
    """Returns by how much the losses of two PyG loops differ, of which one starts with one weight a bit away."""
    loop, other = (pyg_loop.start(work, seed=0, dropout=0.0) for _ in range(2))
    with torch.no_grad():
        weight = other.link_pred.lin_src.weight
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(1.0))
    pairs = zip(loop.train(0), other.train(0), strict=True)
    return [abs(one - two) for _, (one, two) in zip(range(batches), pairs, strict=False)]


def in_hours(work: Workload) -> Workload:
    """Returns the same with times in hours instead of seconds."""
    data = work.data
    return replace(work, data=TemporalData(src=data.src, dst=data.dst, t=data.t // 3600, msg=data.msg))


def follow_itself_in_float64(work: Workload, batches: int) -> list[float]:
    """Returns the same as :func:`follow_itself`, with all numbers in float64."""
    data = work.data
    wide = TemporalData(src=data.src, dst=data.dst, t=data.t, msg=data.msg.double())
    torch.set_default_dtype(torch.float64)
    try:
        return follow_itself(replace(work, data=wide), batches)
    finally:
        torch.set_default_dtype(torch.float32)


def measure(settings: Settings, run: Run) -> Result:
    """Takes all comparisons."""
    work = load_workload(settings.stream, settings.batch_size, seed=0, quick=run.quick)
    batches = min(settings.batches, len(work.batches(work.train)))
    cases: dict[str, Callable[[], list[float]]] = {
        "lockstep": lambda: follow(work, batches, lockstep=True),
        "fixed time encoder": lambda: follow(work, batches, fixed_time=True),
        "hours": lambda: follow(in_hours(work), batches),
        "free": lambda: follow(work, batches),
        "PyG against itself": lambda: follow_itself(work, batches),
        "PyG against itself, float64": lambda: follow_itself_in_float64(work, batches),
    }
    table = Table("comparison", "first batch above 1e-4", "largest difference", title=f"{work.name}, {batches} batches")
    rows = []
    with stable_sort():
        for name, compare in cases.items():
            differences = compare()
            above = next((index for index, each in enumerate(differences) if each > 1e-4), None)
            rows.append({"comparison": name, "first_batch_above_1e-4": above, "largest": max(differences)})
            table.add_row(name, "none" if above is None else str(above), f"{max(differences):.1e}")
    run.console.print(table)
    return {"stream": work.name, "width": DIM, "rows": rows}


BENCHMARK = Benchmark(
    "tgn_equality",
    "losses of the built-in TGN against PyG's loop, batch by batch",
    1,
    measure,
    Settings(),
    quick=replace(Settings(), batches=10),
)
