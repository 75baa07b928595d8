"""How fast each consistency mode trains, in RAM and out of core.

- ram: batch 200, one hop of 10, features in RAM.
- disk: batch 600, two hops of 10x10 uniform neighbours, features of width 172 in a memory-mapped file of 3.4 GB whose
  pages are dropped from the page cache before each gather, so that each truly reads the disk, as with a table larger
  than memory.

All modes train the built-in TGN from the same weights. They take turns, a few batches each, and so do the numbers of
threads that training computes with.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import eq
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.workload import MSG_DIM, QUICK_EVENTS
from pyg_mspipe import TGN, Batch, Batches, NegativeSampler, NeighborSampler, TemporalCSR, load_stream
from pyg_mspipe.data import FeatureStore, MappedFeatures, TensorFeatures, write_features
from pyg_mspipe.graph import Strategy, similar_nodes
from pyg_mspipe.memory import MitigationName, make_mitigation
from pyg_mspipe.pipeline import BatchRecord, PipelineEngine, Staleness
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step

UNTIMED = 6
"""Batches at the start of a turn, which were prepared while others had theirs."""


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        stream: Its name; a synthetic one where it is absent.
        batch_size: Events in a batch.
        num_neighbors: Of each hop.
        strategy: Which neighbours.
        turn: Batches of a turn that are timed.
        start: The share of the training events to begin at, where nodes have their history.
        on_disk: Whether features are read from a file.
    """

    stream: str
    batch_size: int
    num_neighbors: list[int]
    strategy: Strategy
    turn: int
    start: float
    on_disk: bool


WORKLOADS = {
    "ram": Workload("wikipedia", 200, [10], "recent", 10, 0.2, False),
    "disk": Workload("congress_bills", 600, [10, 10], "uniform", 6, 0.5, True),
}


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: turns of each mode, threads of torch, and a folder on a real disk for the features' file."""

    rounds: int
    counts: tuple[int, ...] = (1, 2)
    disk: str = tempfile.gettempdir()


@dataclass(frozen=True)
class Setting:
    """How it is trained. Bound 0 is what prefetching stages 1 and 2 alone gives."""

    staleness: Staleness
    mitigation: MitigationName
    threads: int

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return "prefetch (bound 0)" if self.staleness == 0 else str(self.staleness)


MODES: tuple[tuple[Staleness, MitigationName], ...] = (
    ("sequential", "none"),
    (0, "none"),
    ("exact", "none"),
    *((mode, each) for mode in ("minimal", 1, 2, 4) for each in ("none", "similarity")),
)


class ColdBatches(Batches):
    """Batches whose features are read from the disk, never from the page cache."""

    def gather(self, batch: Batch) -> Batch:
        assert isinstance(self.msg, MappedFeatures)
        self.msg.evict()
        return super().gather(batch)


class Task:
    """A workload made ready: what all settings share."""

    def __init__(self, work: Workload, folder: Path, *, quick: bool) -> None:
        path = find_stream(work.stream)
        if path:
            self.name, data = path.stem.capitalize(), load_stream(path)
        else:
            self.name, data = "Synthetic stream", load_stream("synthetic", num_events=200_000, num_src=8_000)
        if quick:
            data = data[: 4 * QUICK_EVENTS]
        self.name += f", synthetic features of width {MSG_DIM}"
        self.num_nodes = int(torch.maximum(data.src, data.dst).max()) + 1
        self.data, self.events = data, range(int(0.7 * data.num_events))
        self.msg: FeatureStore
        blocks = (self._features(i, data.num_events) for i in range(0, data.num_events, 100_000))
        if work.on_disk:
            write_features(folder / "msg.npy", blocks)
            # One mapping for all: pages that another one holds would not be dropped.
            self.msg = MappedFeatures(folder / "msg.npy")
        else:
            self.msg = TensorFeatures(torch.cat(list(blocks)))
        self.sampler = NeighborSampler(TemporalCSR.from_stream(data, self.num_nodes), work.num_neighbors, work.strategy)
        self.negatives = NegativeSampler.from_destinations(data.dst, seed=0)
        train = slice(self.events.start, self.events.stop)
        self.similar = similar_nodes(data.src[train], data.dst[train], self.num_nodes)
        self.work = work

    @staticmethod
    def _features(start: int, num_events: int) -> torch.Tensor:
        size = min(100_000, num_events - start)
        return torch.randn(size, MSG_DIM, generator=torch.Generator().manual_seed(start))


class Pass:
    """One setting's training, a few batches at a time."""

    def __init__(self, task: Task, setting: Setting) -> None:
        torch.manual_seed(0)
        work = task.work
        kind = ColdBatches if work.on_disk else Batches
        mitigation = None
        if setting.mitigation != "none":
            sizes = {"num_nodes": task.num_nodes, "memory_dim": 100}
            mitigation = make_mitigation(setting.mitigation, similar=task.similar, **sizes)
        self.model = TGN(task.num_nodes, MSG_DIM, num_layers=len(work.num_neighbors), mitigation=mitigation)
        self.objective = Objective(self.model, LinkPrediction(self.model.embedding_dim))
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=1e-4, fused=True)
        self.batches = kind(task.data, task.events, work.batch_size, task.sampler, task.negatives, msg=task.msg)
        self.records: list[BatchRecord] = []
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._threads = setting.threads
        self._random = torch.get_rng_state()
        self.engine = PipelineEngine(
            self.batches,
            self.model.memory.state,
            device=torch.device("cpu"),
            staleness=setting.staleness,
            first=int(work.start * len(self.batches)),
            on_record=self.records.append,
        )
        self.steps = self._train()

    def _train(self) -> Iterator[float]:
        self.model.train()
        for flight in self.engine:
            assert flight.batch is not None
            batch = flight.batch.with_rows(flight.rows)
            yield train_step(self.objective, batch, [self.optimizer], commit=self._commit).item()

    def _commit(self, batch: Batch) -> None:
        self.engine.commit(self.model.commit(batch))

    def turn(self, batches: int) -> None:
        """Trains some batches untimed if they may be prepared already, then so many and takes the time."""
        torch.set_num_threads(self._threads)
        torch.set_rng_state(self._random)
        if self.engine.overlap is not False:
            self.losses += islice(self.steps, UNTIMED)
        start = time.perf_counter()
        self.losses += islice(self.steps, batches)
        self.seconds.append((time.perf_counter() - start) / batches)
        self._random = torch.get_rng_state()


def turns(
    task: Task, threads: Sequence[int], rounds: int, modes: Sequence[tuple[Staleness, MitigationName]] = MODES
) -> dict[str, object]:
    """Returns the figures of all settings on a workload; the first turn of each is not counted."""
    work = task.work
    settings = [Setting(*mode, each) for each in threads for mode in modes]
    with ExitStack() as stack:
        passes = {setting: Pass(task, setting) for setting in settings}
        for each in passes.values():
            stack.enter_context(closing(each.steps))  # type: ignore[type-var]
        for turn in range(1 + rounds):
            for place in range(len(settings)):
                passes[settings[(turn + place) % len(settings)]].turn(work.turn)
    skipped = work.turn
    bases = {each: passes[Setting("sequential", "none", each)] for each in threads}
    best = min(bases.values(), key=lambda base: median(base.seconds[1:]))
    stages, rows = {}, []
    for count, base in bases.items():
        ms = {name: 1000 * median(r.duration(name) for r in base.records[skipped:]) for name in STAGES}
        period = max(ms["sample"], ms["gather"] + ms["fetch"], ms["train"], ms["update"])
        stages[count] = {"ms": ms, "period_ms": period, "allowed_ratio": sum(ms.values()) / period}
    for setting, each in passes.items():
        base, allowed = bases[setting.threads], stages[setting.threads]["allowed_ratio"]
        ratio = _ratio(base, each)
        staleness = Counter(r.staleness for r in each.records[skipped:])
        rows.append(
            {
                "mode": setting.name,
                "mitigation": setting.mitigation,
                "threads": setting.threads,
                "beside_training": bool(each.engine.overlap),
                "events_per_second": work.batch_size / median(each.seconds[1:]),
                "ratio_to_sequential": ratio,
                "ratio_to_best_sequential": _ratio(best, each),
                "share_of_what_stages_allow": ratio / allowed,  # type: ignore[operator]
                "share_of_possible_overlap": (1 - 1 / ratio) / (1 - 1 / allowed),  # type: ignore[operator]
                "batches_by_staleness": {str(key): staleness[key] for key in sorted(staleness)},
                "commits_forwarded_per_batch": sum(r.index - r.fetched - r.staleness for r in each.records)
                / len(each.records),
                "same_losses_as_sequential": all(map(eq, each.losses, base.losses)),
                "ms_per_batch": [1000 * seconds for seconds in each.seconds[1:]],
            }
        )
    return {
        "stream": task.name,
        "events": task.data.num_events,
        "batch_size": work.batch_size,
        "num_neighbors": work.num_neighbors,
        "strategy": work.strategy,
        "batches_a_turn": work.turn,
        "sequential_by_threads": {str(count): each for count, each in stages.items()},
        "rows": rows,
    }


def _ratio(base: Pass, own: Pass) -> float:
    return median(base.seconds[1:]) / median(own.seconds[1:])


def measure(name: str, settings: Settings, run: Run) -> Result:
    """Measures all settings on a workload."""
    with tempfile.TemporaryDirectory(dir=settings.disk) as folder:
        task = Task(WORKLOADS[name], Path(folder), quick=run.quick)
        result = turns(task, settings.counts, settings.rounds, MODES[:3] if run.quick else MODES)
    _print(run.console, f"{name}: {task.name}", result)
    return {"workload": name, **result}


def _print(console: Console, title: str, result: dict[str, object]) -> None:
    table = Table("threads", "mode", "mitigation", "beside", "events/s", "ratio", "to best", "of allowed", title=title)
    table.add_column("staleness")
    table.add_column("losses")
    for row in result["rows"]:  # type: ignore[attr-defined]
        used = " ".join(f"{key}:{count}" for key, count in row["batches_by_staleness"].items())
        ratios = (
            f"{row[key]:.2f}"
            for key in ("ratio_to_sequential", "ratio_to_best_sequential", "share_of_what_stages_allow")
        )
        table.add_row(
            str(row["threads"]),
            row["mode"],
            row["mitigation"],
            "yes" if row["beside_training"] else "no",
            f"{row['events_per_second']:,.0f}",
            *ratios,
            used,
            "same" if row["same_losses_as_sequential"] else "differ",
        )
    console.print(table)
    console.print("sequential, by threads:", result["sequential_by_threads"])


RAM = Benchmark(
    "pipeline_modes_ram",
    "events/s of each mode, features in RAM",
    4,
    partial(measure, "ram"),
    Settings(rounds=40),
    quick=Settings(rounds=1, counts=(1,)),
)
DISK = Benchmark(
    "pipeline_modes_disk",
    "events/s of each mode, features read from a disk",
    4,
    partial(measure, "disk"),
    Settings(rounds=5),
    quick=Settings(rounds=1, counts=(1,)),
)
