"""Benchmark 2: how fast each consistency mode trains, in RAM and out of core.

python -m benchmarks.pipeline_modes [--workload ram disk] [--stream PATH] [--rounds 6] [--quick]

- ram: batch 200, one hop of 10, features in RAM.
- disk: batch 600, two hops of 10x10, features of width 172 in a memory-mapped file whose pages are dropped from the
  page cache before each gather, so that each truly reads the disk, as with a table larger than memory.

All modes train the built-in TGN from the same weights. They take turns, a few batches each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT, WIKIPEDIA
from benchmarks.workload import Workload, load_workload
from pyg_mspipe import TGN, Batch, Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.data import FeatureStore, MappedFeatures, write_features
from pyg_mspipe.pipeline import BatchRecord, PipelineEngine, Staleness
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.training import link_loss
from pyg_mspipe.training.evaluation import scores

MODES: tuple[Staleness, ...] = ("sequential", 0, "exact", "minimal", 1, 2, 4)
"""0 is what prefetching stages 1 and 2 alone gives: memory is fetched when the last commit is there."""
WORKLOADS = {"ram": (200, [10], 20), "disk": (600, [10, 10], 8)}
"""Batch size, neighbours of each hop, and batches of a turn."""
UNTIMED = 6
"""Batches at the start of a turn, which were prepared while others had theirs."""


class ColdBatches(Batches):
    """Batches whose features are read from the disk, never from the page cache."""

    def gather(self, batch: Batch) -> Batch:
        assert isinstance(self.msg, MappedFeatures)
        self.msg.evict()
        return super().gather(batch)


class Pass:
    """One mode's training, a few batches at a time."""

    def __init__(self, work: Workload, hops: list[int], mode: Staleness, msg: FeatureStore | None) -> None:
        torch.manual_seed(0)
        sampler = NeighborSampler(TemporalCSR.from_stream(work.data, work.num_nodes), hops)
        kind = Batches if msg is None else ColdBatches
        self.model = TGN(work.num_nodes, work.msg_dim, num_layers=len(hops))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        self.batches = kind(work.data, work.train, work.batch_size, sampler, work.negatives, msg=msg)
        self.records: list[BatchRecord] = []
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._random = torch.get_rng_state()
        self.engine = PipelineEngine(self.batches, self.model.memory, staleness=mode, on_record=self.records.append)
        self.steps = self._train()

    def _train(self) -> Iterator[float]:
        self.model.train()
        for flight in self.engine:
            batch = flight.batch
            assert batch is not None
            self.optimizer.zero_grad()
            loss = link_loss(scores(self.model, batch))
            with torch.no_grad():
                self.model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            loss.backward()
            self.optimizer.step()
            yield loss.item()

    def turn(self, batches: int) -> None:
        """Trains some batches untimed, then so many and takes the time."""
        torch.set_rng_state(self._random)
        self.losses += islice(self.steps, UNTIMED)
        start = time.perf_counter()
        self.losses += islice(self.steps, batches)
        self.seconds.append((time.perf_counter() - start) / batches)
        self._random = torch.get_rng_state()


def measure(work: Workload, hops: list[int], size: int, rounds: int, file: Path | None) -> dict[str, object]:
    """Returns the figures of all modes on a workload."""
    # One mapping for all: pages that another one holds would not be dropped.
    msg = None if file is None else MappedFeatures(file)
    passes = {mode: Pass(work, hops, mode, msg) for mode in MODES}
    for turn in range(1 + rounds):
        for place in range(len(MODES)):
            passes[MODES[(turn + place) % len(MODES)]].turn(size)
    rows = []
    base = passes["sequential"]
    skipped = size + UNTIMED
    work_ms = {name: 1000 * median(r.duration(name) for r in base.records[skipped:]) for name in STAGES}
    total = sum(work_ms.values()) - work_ms["update"]  # which is part of training where nothing overlaps
    period = max(work_ms["sample"], work_ms["gather"] + work_ms["fetch"], work_ms["train"] - work_ms["update"])
    for mode, each in passes.items():
        ratio = median(one / own for one, own in zip(base.seconds[1:], each.seconds[1:], strict=True))
        staleness = Counter(r.staleness for r in each.records[skipped:])
        rows.append(
            {
                "mode": "prefetch (bound 0)" if mode == 0 else str(mode),
                "events_per_second": work.batch_size / median(each.seconds[1:]),
                "ratio_to_sequential": ratio,
                "share_of_what_stages_allow": ratio / (total / period),
                "share_of_possible_overlap": (1 - 1 / ratio) / (1 - period / total),
                "staleness": {str(key): staleness[key] for key in sorted(staleness)},
                "forwarded_per_batch": sum(r.index - r.fetched - r.staleness for r in each.records) / len(each.records),
                "same_losses_as_sequential": each.losses == base.losses,
                "seconds_per_batch": each.seconds[1:],
            }
        )
    for each in passes.values():
        with closing(each.steps):  # type: ignore[type-var]
            pass
    return {
        "stream": work.name,
        "batch_size": work.batch_size,
        "num_neighbors": hops,
        "sequential_stage_ms": work_ms,
        "allowed_ratio": total / period,
        "rows": rows,
    }


def main() -> None:
    """Measures the workloads, prints tables and writes the results."""
    args = _parse()
    console = Console()
    torch.set_num_threads(args.threads)
    machine = describe_machine()
    results = {}
    for name in args.workload:
        batch_size, hops, size = WORKLOADS[name]
        work = load_workload(args.stream, batch_size, seed=0, quick=args.quick)
        if args.quick:
            size = 2
        with tempfile.TemporaryDirectory(dir=args.disk) as folder:
            file = None
            if name == "disk":
                file = Path(folder) / "msg.npy"
                write_features(file, work.data.msg)
            results[name] = result = measure(work, hops, size, args.rounds, file)
        table = Table("mode", "events/s", "ratio", "of what stages allow", "staleness", "losses", title=name)
        for row in result["rows"]:  # type: ignore[attr-defined]
            used = " ".join(f"{key}:{count}" for key, count in row["staleness"].items())
            same = "same" if row["same_losses_as_sequential"] else "differ"
            figures = f"{row['events_per_second']:,.0f}", f"{row['ratio_to_sequential']:.3f}"
            table.add_row(row["mode"], *figures, f"{row['share_of_what_stages_allow']:.2f}", used, same)
        console.print(table)
        console.print("sequential, ms per stage:", result["sequential_stage_ms"], "allow", result["allowed_ratio"])
    path = ROOT / "benchmarks" / "results" / f"pipeline_modes{'-quick' if args.quick else ''}.json"
    write_json(
        path,
        {"benchmark": "pipeline_modes", "machine": machine, "rounds": args.rounds, "workloads": results},
    )
    console.print(f"written to {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_modes", description="Modes side by side.")
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="default: both")
    default = WIKIPEDIA if WIKIPEDIA.exists() else None
    parser.add_argument("--stream", type=Path, default=default, help="default: %(default)s; None is synthetic")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each mode (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch's, in training (default: %(default)s)")
    parser.add_argument("--disk", type=Path, help="folder for the features' file, on a real disk (default: /tmp)")
    parser.add_argument("--quick", action="store_true", help="the first few thousand events, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
