"""What the temporal CSR costs to build and to keep, and how long a batch takes to sample, also beside PyG's loader."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median

import torch
from rich.table import Table
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import LastNeighborLoader

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
    name, data = _load(settings.stream, settings.synthetic_events)
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
                queries = torch.cat([data.src[part], data.dst[part], negatives.draw(size, epoch=0, batch=number)])
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


def _load(stream: str, synthetic_events: int) -> tuple[str, TemporalData]:
    """Returns a stream and its name; a synthetic one where there is no such file."""
    path = find_stream(stream)
    if path is None:
        return "Synthetic stream", load_stream("synthetic", num_events=synthetic_events)
    return path.stem, load_stream(path)


@dataclass(frozen=True)
class QuerySettings:
    """Of the comparison with PyG's ``LastNeighborLoader``, which is filled beforehand and takes no events in.

    Attributes:
        streams: Where there is no such file, a synthetic one.
        synthetic_events: Of that.
        neighbors: How many last neighbours, each in turn.
        nodes: How many nodes a query asks for; a stream with fewer is left out.
        queries: Of each size, each answered by both in turn.
        thread_counts: torch's.
    """

    streams: tuple[str, ...] = ("wikipedia", "collegemsg")
    synthetic_events: int = 10_000
    neighbors: tuple[int, ...] = (10, 1, 20)
    nodes: tuple[int, ...] = (1, 8, 22, 64, 200, 600, 1200, 4000)
    queries: int = 200
    thread_counts: tuple[int, ...] = (1, 2)


def measure_queries(settings: QuerySettings, run: Run) -> Result:
    """Measures what a query of ``NeighborSampler`` takes, and one of PyG's loader."""
    rows = []
    for stream in settings.streams:
        name, data = _load(stream, settings.synthetic_events)
        for threads in settings.thread_counts:
            torch.set_num_threads(threads)
            for k in settings.neighbors:
                for row in _queries(data, k, settings):
                    rows.append({"stream": name, "threads": threads, "neighbors": k, **row})
    headings = ("stream", "threads", "neighbours", "nodes", "PyG, us", "ours, us", "ours to PyG")
    table = Table(*headings, title="a query, medians")
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("threads", "neighbors", "nodes"))
        table.add_row(row["stream"], *counts, f"{row['pyg_us']:.0f}", f"{row['us']:.0f}", f"{row['ratio']:.2f}")
    run.console.print(table)
    return {"rows": rows}


def _queries(data: TemporalData, k: int, settings: QuerySettings) -> list[Result]:
    """Returns what a query of each size takes in the last third of a stream, for nodes drawn by their events."""
    csr = TemporalCSR.from_stream(data)
    sampler, loader = NeighborSampler(csr, [k]), LastNeighborLoader(csr.num_nodes, k)
    first = 2 * data.num_events // 3
    (hop,) = sampler.sample(torch.arange(csr.num_nodes), first).hops
    loader.neighbors, loader.e_id = hop.neighbor, torch.where(hop.mask, hop.e_id, -1)
    weight = torch.cat([data.src, data.dst]).bincount(minlength=csr.num_nodes).double()
    generator = torch.Generator().manual_seed(0)
    rows = []
    for size in settings.nodes:
        if size > int(weight.count_nonzero()):
            continue
        times: tuple[list[float], list[float]] = [], []
        for number in range(settings.queries):
            n_id = weight.multinomial(size, generator=generator).sort().values
            ways = (lambda: loader(n_id), lambda: sampler(n_id, first))  # noqa: B023
            found = {}
            for way in (number % 2, 1 - number % 2):
                start = time.perf_counter()
                found[way] = ways[way]()
                times[way].append(1e6 * (time.perf_counter() - start))
            if not all(map(torch.equal, found[0], found[1])):
                raise RuntimeError(f"PyG's loader and NeighborSampler differ on the nodes {n_id.tolist()}")
        ratio = median(own / other for other, own in zip(*times, strict=True))
        rows.append({"nodes": size, "pyg_us": median(times[0]), "us": median(times[1]), "ratio": ratio})
    return rows


BENCHMARK = Benchmark(
    "sampling",
    "building the temporal CSR, its size, and sampling a batch",
    1,
    measure,
    Settings(),
    quick=replace(Settings(), stream="synthetic", synthetic_events=10_000, batches=10, threads=1),
)

QUERIES = Benchmark(
    "sampling_queries",
    "a query of NeighborSampler beside one of PyG's LastNeighborLoader",
    1,
    measure_queries,
    QuerySettings(),
    quick=replace(QuerySettings(), streams=("synthetic",), nodes=(1, 200), queries=5, thread_counts=(1,)),
)
