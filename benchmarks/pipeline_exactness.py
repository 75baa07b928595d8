"""Whether ``exact`` trains as ``sequential`` does, bit for bit, with random delays in every stage.

python -m benchmarks.pipeline_exactness [--runs 20] [--folder FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch_geometric.nn.models.tgn import MeanAggregator

from benchmarks.machine import describe_machine
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT, WIKIPEDIA
from benchmarks.workload import load_workload
from pyg_mspipe import TGN, Batch, Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import InFlight, PipelineEngine, Staleness, default_stages
from pyg_mspipe.pipeline.stages import Stage
from pyg_mspipe.training import link_loss
from pyg_mspipe.training.evaluation import scores

BATCH_SIZE = 200
CASES = {
    # stream, events (0: the whole training part), hops, mean aggregator
    "wikipedia, one epoch": ("wikipedia", 0, 1, False),
    "wikipedia, two hops": ("wikipedia", 16_000, 2, False),
    "wikipedia, MeanAggregator": ("wikipedia", 16_000, 1, True),
    "enron, self-loops and both roles": ("enron", 0, 1, False),
}


class Delayed:
    """A stage that waits a random time before its work and after it."""

    def __init__(self, stage: Stage[Batch], seed: int, longest: float) -> None:
        self.stage = stage
        self.name, self.requires, self.adds = stage.name, stage.requires, stage.adds
        self.random = random.Random(f"{seed} {stage.name}")
        self.longest = longest

    def __call__(self, flight: InFlight[Batch]) -> None:
        # Now and then a stage is held up for long, so that others overtake it by several batches.
        scale = self.longest * (10 if self.random.random() < 0.02 else 1)
        time.sleep(self.random.random() * scale)
        self.stage(flight)


class Runs:
    """Trainings of one model on one stream."""

    def __init__(self, file: Path, events: int, hops: int, mean: bool, quick: bool) -> None:
        self.work = load_workload(file, BATCH_SIZE, seed=0, quick=quick)
        self.events = self.work.train[: events or None]
        self.sampler = NeighborSampler(TemporalCSR.from_stream(self.work.data, self.work.num_nodes), [10] * hops)
        self.hops, self.mean = hops, mean

    def train(self, staleness: Staleness, seed: int | None) -> tuple[list[float], dict[str, Tensor], float]:
        """Returns the loss of each batch, the final memory, and how many commits a batch had forwarded, on average."""
        torch.manual_seed(0)
        work = self.work
        aggregator = MeanAggregator() if self.mean else None
        model = TGN(work.num_nodes, work.msg_dim, num_layers=self.hops, aggregator_module=aggregator)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        batches = Batches(work.data, self.events, BATCH_SIZE, self.sampler, work.negatives)
        stages = default_stages(batches, model.memory)
        if seed is not None:
            stages = [Delayed(stage, seed, 0.002) for stage in stages]  # type: ignore[misc]
        losses: list[float] = []
        missed: list[int] = []
        model.train()
        for flight in PipelineEngine(batches, model.memory, staleness=staleness, overlap=True, stages=stages):
            batch = flight.batch
            assert batch is not None
            missed.append(flight.index - flight.record.fetched)
            optimizer.zero_grad()
            loss = link_loss(scores(model, batch))
            with torch.no_grad():
                model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, model.memory.memory_state(), sum(missed) / len(missed)


def main() -> None:
    """Compares all runs of all cases, prints a table and writes the results."""
    args = _parse()
    console = Console()
    torch.set_num_threads(args.threads)
    rows = []
    table = Table("case", "batches", "runs", "equal losses", "equal memory", "commits forwarded per batch")
    for name, (stream, events, hops, mean) in CASES.items():
        runs = Runs(args.folder / f"{stream}.npz", events, hops, mean, args.quick)
        losses, memory, _ = runs.train("sequential", None)
        same_losses = same_memory = 0
        forwarded = []
        for seed in range(args.runs):
            own_losses, own_memory, missed = runs.train("exact", seed)
            same_losses += own_losses == losses
            same_memory += all(torch.equal(own_memory[key], memory[key]) for key in memory)
            forwarded.append(missed)
        mean_forwarded = sum(forwarded) / len(forwarded)
        table.add_row(
            name, str(len(losses)), str(args.runs), str(same_losses), str(same_memory), f"{mean_forwarded:.2f}"
        )
        rows.append(
            {
                "case": name,
                "batches": len(losses),
                "runs": args.runs,
                "equal_losses": same_losses,
                "equal_memory": same_memory,
                "commits_forwarded_per_batch": mean_forwarded,
            }
        )
    console.print(table)
    result = {"benchmark": "pipeline_exactness", "machine": describe_machine(), "batch_size": BATCH_SIZE, "rows": rows}
    path = ROOT / "benchmarks" / "results" / f"pipeline_exactness{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_exactness", description="exact = sequential?")
    parser.add_argument("--runs", type=int, default=20, help="of each case (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=WIKIPEDIA.parent, help="with the streams (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's, in training (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the first few thousand events, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
