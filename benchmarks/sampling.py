"""What the temporal CSR costs to build and to keep, and how long a batch takes to sample."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median

import torch
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from pyg_mspipe import NegativeSampler, NeighborSampler, TemporalCSR, load_stream
from pyg_mspipe.graph import Strategy


@dataclass(frozen=True)
class Settings:
    """Of this benchmark; queries are sources, destinations and one negative of each event."""

    stream: str = "congress_bills"
    synthetic_events: int = 1_000_000
    batch_size: int = 600
    batches: int = 200
    neighbors: int = 10
    builds: int = 3
    threads: int = 2


def measure(settings: Settings, run: Run) -> Result:
    """Measures building and sampling."""
    path = find_stream(settings.stream)
    if path is None:
        name, data = "Synthetic stream", load_stream("synthetic", num_events=settings.synthetic_events)
    else:
        name, data = path.stem, load_stream(path)
    builds = []
    for _ in range(settings.builds):
        start = time.perf_counter()
        csr = TemporalCSR.from_stream(data)
        builds.append(time.perf_counter() - start)

    size = settings.batch_size
    negatives = NegativeSampler.from_destinations(data.dst)
    firsts = torch.linspace(data.num_events // 2, data.num_events - size, settings.batches).long().tolist()
    strategies: tuple[Strategy, ...] = ("recent", "uniform")
    sampled = {}
    for strategy in strategies:
        sampler = NeighborSampler(csr, [settings.neighbors], strategy)
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
        table.add_row(f"{3 * size:,} queries, {settings.neighbors} neighbours, {what}", f"{ms:.2f} ms")
    run.console.print(table)
    return {
        "stream": name,
        "events": csr.num_events,
        "nodes": csr.num_nodes,
        "build_s": builds,
        "bytes_per_event": csr.nbytes / csr.num_events,
        "batch_size": size,
        "queries": 3 * size,
        "neighbors": settings.neighbors,
        "batches": settings.batches,
        "sample_ms_median": sampled,
    }


BENCHMARK = Benchmark(
    "sampling",
    "building the temporal CSR, its size, and sampling a batch",
    1,
    measure,
    Settings(),
    quick=replace(Settings(), stream="synthetic", synthetic_events=10_000, batches=10, threads=1),
)
