"""What the temporal CSR costs to build and to keep, and how long a batch takes to sample.

python -m benchmarks.sampling [--stream PATH] [--batch-size 600] [--neighbors 10] [--threads 2] [--quick]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT
from pyg_mspipe import NegativeSampler, NeighborSampler, TemporalCSR, load_stream
from pyg_mspipe.graph import Strategy

BILLS = ROOT.parent / "shared" / "data" / "congress_bills.npz"


def main() -> None:
    """Measures building and sampling, prints both and writes the results."""
    args = _parse()
    console = Console()
    torch.set_num_threads(args.threads)
    if args.stream is None:
        name, data = "Synthetic stream", load_stream("synthetic", num_events=10_000 if args.quick else 1_000_000)
    else:
        name, data = args.stream.stem, load_stream(args.stream)
    builds = []
    for _ in range(3):
        start = time.perf_counter()
        csr = TemporalCSR.from_stream(data)
        builds.append(time.perf_counter() - start)

    size = args.batch_size
    negatives = NegativeSampler.from_destinations(data.dst)
    firsts = torch.linspace(data.num_events // 2, data.num_events - size, args.batches).long().tolist()
    strategies: tuple[Strategy, ...] = ("recent", "uniform")
    sampled = {}
    for strategy in strategies:
        sampler = NeighborSampler(csr, [args.neighbors], strategy)
        for cut_off in ("batch", "event"):
            times = []
            for number, first in enumerate(firsts):
                part = slice(first, first + size)
                queries = torch.cat([data.src[part], data.dst[part], negatives(size, epoch=0, batch=number)])
                start = time.perf_counter()
                bound = first if cut_off == "batch" else csr.first_event_at(data.t[part]).repeat(3)
                sampler.sample(queries, bound)
                times.append(1000 * (time.perf_counter() - start))
            sampled[f"{strategy}, cut-off {cut_off}"] = median(times)

    table = Table("", "median", title=f"{name}: {csr.num_events:,} events, {csr.num_nodes:,} nodes")
    table.add_row("build", f"{median(builds):.2f} s")
    table.add_row("size", f"{csr.nbytes / csr.num_events:.1f} bytes per event")
    for what, ms in sampled.items():
        table.add_row(f"{3 * size:,} queries, {args.neighbors} neighbours, {what}", f"{ms:.2f} ms")
    console.print(table)
    result = {
        "benchmark": "sampling",
        "machine": describe_machine(),
        "stream": name,
        "events": csr.num_events,
        "nodes": csr.num_nodes,
        "build_s": builds,
        "bytes_per_event": csr.nbytes / csr.num_events,
        "batch_size": size,
        "queries": 3 * size,
        "neighbors": args.neighbors,
        "batches": args.batches,
        "sample_ms_median": sampled,
    }
    path = ROOT / "benchmarks" / "results" / f"sampling{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description="CSR and sampler.")
    default = BILLS if BILLS.exists() else None
    parser.add_argument("--stream", type=Path, default=default, help="default: %(default)s; None is synthetic")
    parser.add_argument("--batch-size", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--batches", type=int, default=200, help="batches to sample (default: %(default)s)")
    parser.add_argument("--neighbors", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="torch's (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a small stream, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.stream, args.batches = None, 10
    return args


if __name__ == "__main__":
    main()
