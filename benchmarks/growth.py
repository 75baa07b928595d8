"""What an event costs, in time and memory, as the stream, the number of nodes and the batches grow.

Streams of the same kind, from 10^5 to 5 * 10^6 events, are trained in turns, some batches at the end of each, where the
history is as long as it gets. Nodes are few enough that all of them have a full set of neighbours in the shortest
stream too: so batches read as many rows, and what differs is the length of the history alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run
from pyg_mspipe import TGN, Batches, NegativeSampler, NeighborSampler, TemporalCSR, synthetic
from pyg_mspipe.pipeline import BatchRecord, PipelineEngine
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        events: Sizes of the streams, each with the first number of nodes.
        nodes: Numbers of nodes, each with ``events_by_nodes`` events; half of them are sources.
        events_by_nodes: Of the streams whose nodes grow.
        batch_size: Events in a batch, of the streams that grow.
        batch_sizes: Others, for the stream with ``events_by_nodes`` events and the first number of nodes.
        turn: Batches of a turn.
        rounds: Turns of each stream; one more comes before and is not counted.
        threads: torch's.
    """

    events: tuple[int, ...] = (100_000, 300_000, 1_000_000, 5_000_000)
    nodes: tuple[int, ...] = (2_000, 20_000, 200_000)
    events_by_nodes: int = 1_000_000
    batch_size: int = 600
    batch_sizes: tuple[int, ...] = (100, 200, 600, 1200, 2400)
    turn: int = 8
    rounds: int = 12
    threads: int = 2


class Stream:
    """A stream with a model in training at its end."""

    def __init__(self, num_events: int, num_nodes: int, batch_size: int, settings: Settings) -> None:
        data = synthetic(num_events, num_src=num_nodes // 2, num_dst=num_nodes // 2, msg_dim=0)
        begin = time.perf_counter()
        self.csr = TemporalCSR.from_stream(data, num_nodes)
        self.build_seconds = time.perf_counter() - begin
        self.num_events, self.num_nodes, self.batch_size = num_events, num_nodes, batch_size
        torch.manual_seed(0)
        self.model = TGN(num_nodes, 0)
        self.objective = Objective(self.model, LinkPrediction(self.model.embedding_dim))
        self.bytes_per_node = self.model.memory.state.nbytes / num_nodes
        self.rows_read: list[int] = []
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=1e-4, fused=True)
        sampler = NeighborSampler(self.csr, [10])
        negatives = NegativeSampler.from_destinations(data.dst, seed=0)
        self.batches = Batches(data, range(num_events), batch_size, sampler, negatives)
        self.records: list[BatchRecord] = []
        self.seconds: list[float] = []
        needed = settings.turn * (settings.rounds + 1)
        first = max(0, len(self.batches) - needed - 1)
        engine = PipelineEngine(
            self.batches,
            self.model.memory.state,
            device=torch.device("cpu"),
            staleness="sequential",
            first=first,
            on_record=self.records.append,
        )
        self.steps = self._train(engine)

    def _train(self, engine: PipelineEngine) -> Iterator[None]:  # type: ignore[type-arg]
        self.model.train()
        for flight in engine:
            batch = flight.batch
            assert batch is not None
            self.rows_read.append(batch.n_id.numel())
            batch = batch.with_rows(flight.rows)
            train_step(
                self.objective, batch, [self.optimizer], commit=lambda batch: engine.commit(self.model.commit(batch))
            )
            yield

    def turn(self, batches: int) -> None:
        """Trains some batches."""
        start = time.perf_counter()
        trained = sum(1 for _ in islice(self.steps, batches))
        self.seconds.append((time.perf_counter() - start) / trained)

    def row(self, settings: Settings) -> Result:
        """Returns what an event and a node cost."""
        ms = {name: 1000 * median(r.duration(name) for r in self.records[settings.turn :]) for name in STAGES}
        return {
            "events": self.num_events,
            "nodes": self.num_nodes,
            "batch_size": self.batch_size,
            "us_per_event": 1e6 * median(self.seconds[1:]) / self.batch_size,
            "stage_ms_per_batch": ms,
            "build_us_per_event": 1e6 * self.build_seconds / self.num_events,
            "history_bytes_per_event": self.csr.nbytes / self.num_events,
            "memory_bytes_per_node": self.bytes_per_node,
            "rows_read_per_batch": fmean(self.rows_read),
        }


def measure(settings: Settings, run: Run) -> Result:
    """Measures streams that grow in events, some that grow in nodes, then batches that grow."""
    size, events, few = settings.batch_size, settings.events_by_nodes, settings.nodes[0]
    rows = {
        "by_events": _turns([(each, few, size) for each in settings.events], settings),
        "by_nodes": _turns([(events, each, size) for each in settings.nodes], settings),
        "by_batch_size": _turns([(events, few, each) for each in settings.batch_sizes], settings),
    }
    for title, each in rows.items():
        _print(run.console, title.replace("_", " "), each)
    return {"stream": "Synthetic streams without features", **rows}


def _print(console: Console, title: str, rows: list[Result]) -> None:
    headings = ("events", "nodes", "batch", "rows read", "us per event", "build", "bytes per event", "bytes per node")
    table = Table(*headings, title=title)
    for row in rows:
        table.add_row(
            f"{row['events']:,}",
            f"{row['nodes']:,}",
            f"{row['batch_size']:,}",
            f"{row['rows_read_per_batch']:,.0f}",
            f"{row['us_per_event']:.1f}",
            f"{row['build_us_per_event']:.2f}",
            f"{row['history_bytes_per_event']:.1f}",
            f"{row['memory_bytes_per_node']:.0f}",
        )
    console.print(table)


def _turns(sizes: list[tuple[int, int, int]], settings: Settings) -> list[Result]:
    with ExitStack() as stack:
        streams = [Stream(*each, settings) for each in sizes]
        for each in streams:
            stack.enter_context(closing(each.steps))  # type: ignore[type-var]
        for turn in range(settings.rounds + 1):
            for place in range(len(streams)):
                streams[(turn + place) % len(streams)].turn(settings.turn)
    return [each.row(settings) for each in streams]


BENCHMARK = Benchmark(
    "growth",
    "cost of an event and of a node as streams grow",
    1,
    measure,
    Settings(),
    quick=Settings((5_000, 20_000), (200, 400), 5_000, batch_sizes=(200,), rounds=1, turn=2, threads=1),
)
