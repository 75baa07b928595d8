"""The consistency modes on a GPU, with node memory and features on the host and on the device.

It checks that ``exact`` equals ``sequential`` bit for bit on the GPU, and times every mode in turns. Node memory and
features on the host, brought to the device batch by batch, are MSPipe's setting. It has not been run on a GPU yet:
there are no results of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median

import torch
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.workload import Workload, load_workload
from benchmarks.pipeline_modes import UNTIMED
from pyg_mspipe import TGN, Batch, Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.pipeline import BatchRecord, PipelineEngine, Staleness
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step

MODES: tuple[Staleness, ...] = ("sequential", 0, "exact", "minimal", 1, 2, 4)
TURN = 20
"""Timed batches of a turn."""


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``turns`` of each mode."""

    stream: str = "wikipedia"
    batch_size: int = 600
    turns: int = 4


class Pass:
    """One mode's training, some batches at a time."""

    def __init__(self, work: Workload, hops: list[int], mode: Staleness, host: bool) -> None:
        device = torch.device("cuda")
        torch.manual_seed(0)
        data = work.data if host else work.data.clone().to(device)
        sampler = NeighborSampler(TemporalCSR.from_stream(data, work.num_nodes), hops)
        msg = TensorFeatures(data.msg, pinned=True) if host else None
        self.batches = Batches(data, work.train, work.batch_size, sampler, work.negatives, msg=msg, device=device)
        self.model = TGN(work.num_nodes, work.msg_dim, num_layers=len(hops), memory_device="cpu" if host else None)
        self.objective = Objective(self.model, LinkPrediction(self.model.embedding_dim)).to(device)
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=1e-4, fused=True)
        self.records: list[BatchRecord] = []
        self.losses: list[torch.Tensor] = []
        self.seconds: list[float] = []
        self._random = torch.cuda.get_rng_state()
        self.steps = self._train(mode)

    def _train(self, mode: Staleness) -> Iterator[torch.Tensor]:
        self.model.train()
        state, device = self.model.memory.state, torch.device("cuda")
        engine = PipelineEngine(self.batches, state, device=device, staleness=mode, on_record=self.records.append)

        def commit(batch: Batch) -> None:
            engine.commit(self.model.commit(batch))

        for flight in engine:
            assert flight.batch is not None
            batch = flight.batch.with_rows(flight.rows)
            yield train_step(self.objective, batch, [self.optimizer], commit=commit)

    def turn(self) -> None:
        """Trains some batches untimed, then as many as a turn has, until the device is done."""
        torch.cuda.set_rng_state(self._random)
        self.losses += islice(self.steps, UNTIMED)
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.losses += islice(self.steps, TURN)
        torch.cuda.synchronize()
        self.seconds.append((time.perf_counter() - start) / TURN)
        self._random = torch.cuda.get_rng_state()


def turns(work: Workload, hops: list[int], host: bool, rounds: int) -> list[dict[str, object]]:
    """Returns the figures of all modes."""
    passes = {mode: Pass(work, hops, mode, host) for mode in MODES}
    for _ in range(1 + rounds):
        for each in passes.values():
            each.turn()
    base = passes["sequential"]
    losses = torch.stack(base.losses)
    rows: list[dict[str, object]] = []
    for mode, each in passes.items():
        ratio = median(one / own for one, own in zip(base.seconds[1:], each.seconds[1:], strict=True))
        staleness = Counter(record.staleness for record in each.records[TURN:])
        rows.append(
            {
                "mode": str(mode),
                "events_per_second": work.batch_size / median(each.seconds[1:]),
                "ratio_to_sequential": ratio,
                "same_losses_as_sequential": torch.equal(torch.stack(each.losses), losses),
                "staleness": {str(key): staleness[key] for key in sorted(staleness)},
                "bound_held": all(record.staleness <= record.bound for record in each.records),
                "stage_ms": {name: 1000 * median(r.duration(name) for r in each.records[TURN:]) for name in STAGES},
            }
        )
    return rows


def measure(settings: Settings, run: Run) -> Result:
    """Measures all modes in each setting."""
    # Sums in another order would make equal runs differ.
    torch.use_deterministic_algorithms(True, warn_only=True)
    work = load_workload(settings.stream, settings.batch_size, seed=0, quick=run.quick)
    results = {}
    for hops in ([10], [10, 10]):
        for host in (True, False):
            name = f"{len(hops)} hops, memory and features on the {'host' if host else 'device'}"
            results[name] = rows = turns(work, hops, host, settings.turns)
            table = Table("mode", "events/s", "ratio", "losses", "staleness", title=name)
            for row in rows:
                same = "same" if row["same_losses_as_sequential"] else "differ"
                figures = f"{row['events_per_second']:,.0f}", f"{row['ratio_to_sequential']:.2f}"
                table.add_row(str(row["mode"]), *figures, same, str(row["staleness"]))
            run.console.print(table)
    return {"stream": work.name, "results": results}


def why_not() -> str | None:
    """Returns why it cannot run here."""
    return None if torch.cuda.is_available() else "this machine has no CUDA device"


BENCHMARK = Benchmark(
    "pipeline_gpu",
    "events/s of each mode on a GPU, and whether exact equals sequential there",
    10,
    measure,
    Settings(),
    quick=replace(Settings(), stream="synthetic", turns=1),
    why_not=why_not,
)
