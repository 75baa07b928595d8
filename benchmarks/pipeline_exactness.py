"""Whether ``exact`` trains as ``sequential`` does, bit for bit, with random delays in every stage."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.workload import load_workload
from pyg_mspipe import Batch, Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import TemporalModel
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.pipeline import PipelineEngine, Staleness
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step

BATCH_SIZE = 200
CASES = {
    # stream, events (0: the whole training part), model, layers
    "wikipedia, one epoch": ("wikipedia", 0, "tgn", 1),
    "enron, self-loops and both roles": ("enron", 0, "tgn", 1),
    "wikipedia, two hops": ("wikipedia", 16_000, "tgn", 2),
    "JODIE, enron": ("enron", 16_000, "jodie", 0),
    "DyRep, enron": ("enron", 16_000, "dyrep", 1),
    "APAN, enron, with its deliveries": ("enron", 16_000, "apan", 0),
}


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``runs`` of each case, ``jobs`` cases at once, with a training thread each."""

    runs: int = 20
    jobs: int = 2


def delay(owner: object, method: str, seed: int, longest: float = 0.002) -> None:
    """Makes a stage wait a random time, of so many seconds at most, before it calls a method of its owner."""
    call, delays = getattr(owner, method), random.Random(f"{seed} {method}")

    def late(*args: Any, **options: Any) -> Any:
        # Now and then a stage is held up for long, so that others overtake it by several batches.
        scale = longest * (10 if delays.random() < 0.02 else 1)
        time.sleep(delays.random() * scale)
        return call(*args, **options)

    setattr(owner, method, late)


class Runs:
    """Trainings of one model on one stream."""

    def __init__(self, stream: str, events: int, model: str, layers: int, quick: bool) -> None:
        self.work = load_workload(stream, BATCH_SIZE, seed=0, quick=quick)
        self.events = self.work.train[: events or None]
        self.sampler = NeighborSampler(TemporalCSR.from_stream(self.work.data, self.work.num_nodes), [10] * layers)
        self.make: Callable[..., TemporalModel] = partial(MODELS[model], **({"num_layers": layers} if layers else {}))

    def train(self, staleness: Staleness, seed: int | None) -> tuple[list[float], dict[str, Tensor], float]:
        """Returns the loss of each batch, the final memory, and how many commits a batch had forwarded, on average."""
        torch.manual_seed(0)
        work = self.work
        model = self.make(work.num_nodes, work.msg_dim)
        assert model.memory is not None
        objective = Objective(model, LinkPrediction(model.embedding_dim))
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-4, fused=True)
        batches = Batches(
            work.data,
            self.events,
            BATCH_SIZE,
            self.sampler,
            work.negatives,
            with_ends=model.embeds_ends,
            make_plan=model.memory.make_plan,
        )
        state, device = model.memory.state, torch.device("cpu")
        if seed is not None:
            for method in ("draw", "gather"):
                delay(batches, method, seed)
            for method in ("await_fetch", "await_apply"):
                delay(state, method, seed)
        losses: list[float] = []
        missed: list[int] = []
        model.train()
        engine = PipelineEngine(batches, state, device=device, staleness=staleness, overlap=True)

        def commit(batch: Batch) -> None:
            engine.commit(model.commit(batch))

        for flight in engine:
            assert flight.batch is not None
            missed.append(flight.index - flight.record.fetched)
            batch = flight.batch.with_rows(flight.rows)
            losses.append(train_step(objective, batch, [optimizer], commit=commit).item())
        return losses, state.save(), sum(missed) / len(missed)


def compare(name: str, runs: int, quick: bool) -> Result:
    """Returns how many runs of a case were equal to sequential training."""
    trainings = Runs(*CASES[name], quick)
    losses, memory, _ = trainings.train("sequential", None)
    same_losses = same_memory = 0
    forwarded = []
    for seed in range(runs):
        own_losses, own_memory, missed = trainings.train("exact", seed)
        same_losses += own_losses == losses
        same_memory += all(torch.equal(own_memory[key], memory[key]) for key in memory)
        forwarded.append(missed)
    return {
        "case": name,
        "batches": len(losses),
        "runs": runs,
        "equal_losses": same_losses,
        "equal_memory": same_memory,
        "commits_forwarded_per_batch": fmean(forwarded),
    }


def measure(settings: Settings, run: Run) -> Result:
    """Compares all runs of all cases."""
    table = Table("case", "batches", "runs", "equal losses", "equal memory", "commits forwarded per batch")
    compare_case = partial(compare, runs=settings.runs, quick=run.quick)
    with ProcessPoolExecutor(settings.jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        rows = list(pool.map(compare_case, list(CASES)[:: 2 if run.quick else 1]))
    for row in rows:
        *counts, forwarded = list(row.values())[1:]
        table.add_row(row["case"], *map(str, counts), f"{forwarded:.2f}")
    run.console.print(table)
    return {"batch_size": BATCH_SIZE, "rows": rows}


BENCHMARK = Benchmark(
    "pipeline_exactness",
    "whether exact equals sequential bit for bit, under random delays",
    13,
    measure,
    Settings(),
    quick=Settings(runs=1, jobs=1),
)
