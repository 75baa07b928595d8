"""Evaluation by TGB's protocol: a pass for each event as in TGB's example, against one for each batch.

The same modules, PyG's ``TGNMemory`` among them, with the same weights, are evaluated both ways on the same lists; and
the built-in TGN with many negatives and with one. What evaluation holds in memory is measured in other processes.
"""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run
from benchmarks.harness.workload import Workload, load_workload
from benchmarks.peers import pyg_loop
from benchmarks.peers.link_loop import DIM, NUM_NEIGHBORS
from benchmarks.peers.tgb_loop import score_events
from pyg_mspipe import LinkPredictor, TrainConfig, Trainer, evaluate_links
from pyg_mspipe.tasks import Ranking
from pyg_mspipe.tasks.evaluation import score_batches
from pyg_mspipe.tasks.protocols import Candidates, tgb_candidates

_HEADS = {
    "the same modules, evaluate_links": False,
    "the same, head's weights in pyg_mspipe's LinkPredictor": True,
}
"""How the same modules are evaluated, and whether with our class of the head."""


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        stream: A stream by name.
        batch_size: Events in a batch.
        negatives: Negatives of each event.
        rounds: How often the ways take turns.
        single: Events that are passed one by one in a round.
        batches: Batches that are evaluated in a round.
        large: Events and negatives of the evaluation whose memory is measured.
        threads: Of torch.
        seed: Of weights and negatives.
    """

    stream: str = "wikipedia"
    batch_size: int = 200
    negatives: int = 999
    rounds: int = 5
    single: int = 40
    batches: int = 20
    large: tuple[int, ...] = (100_000, 100)
    threads: int = 1
    seed: int = 0


def measure(settings: Settings, run: Run) -> Result:
    """Measures both ways, and the built-in model."""
    workload = load_workload(settings.stream, settings.batch_size, seed=settings.seed, quick=run.quick)
    lists = tgb_candidates(workload.data, workload.train, workload.val, settings.negatives, seed=settings.seed)
    loop = _filled(workload, settings.seed)
    rows: dict[str, list[float]] = {name: [] for name in ("TGB's loop, an event at a time", *_HEADS)}
    mrr: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(settings.rounds):
        first = workload.val.start
        events = range(first, min(first + settings.single, workload.val.stop))
        one = copy.deepcopy(loop)
        began = time.perf_counter()
        scores = score_events(one, events, first, [lists.dst[a:b].long() for a, b in _ends(lists, events)])
        rows["TGB's loop, an event at a time"].append((time.perf_counter() - began) / len(events))
        mrr["TGB's loop, an event at a time"].append(_mrr(scores))
        part = range(first, min(first + settings.batches * settings.batch_size, workload.val.stop))
        for name, ours in _HEADS.items():
            other = copy.deepcopy(loop)
            began = time.perf_counter()
            _evaluate(other, part, lists, ours)
            rows[name].append((time.perf_counter() - began) / len(part))
            mrr[name].append(_evaluate(copy.deepcopy(loop), events, lists, ours))
        run.console.print(f"round {number}: " + ", ".join(f"{1e3 * each[-1]:.3f} ms" for each in rows.values()))
    many, single = _builtin(settings, workload)
    rows |= {f"built-in TGN, {settings.negatives} negatives": many, "built-in TGN, 1 negative": single}
    table = Table("", "ms an event", title=f"{workload.name}, {settings.negatives} negatives by TGB's rule")
    for name, seconds in rows.items():
        table.add_row(name, f"{1e3 * median(seconds):.3f}")
    run.console.print(table)
    memory = [_memory(settings, events, negatives, run.quick) for events, negatives in _sizes(settings)]
    return {
        "stream": workload.name,
        "rows": [{"name": name, "seconds_an_event": seconds} for name, seconds in rows.items()],
        "mrr_of_single": {name: values[0] for name, values in mrr.items()},
        "largest_mrr_difference": max(max(each) - min(each) for each in zip(*mrr.values(), strict=True)),
        "memory": memory,
    }


def _sizes(settings: Settings) -> list[tuple[int, int]]:
    """Returns the numbers of events, 0 for all of the test, and of negatives whose memory is measured."""
    return [(0, settings.negatives), (settings.large[0], settings.large[1])]


@torch.no_grad()
def _filled(workload: Workload, seed: int) -> pyg_loop.TGNLoop:
    """Returns PyG's loop with first weights, its memory as it is after the training events."""
    loop = pyg_loop.start(workload, seed)
    for events in workload.batches(workload.train):
        batch = workload.data[events.start : events.stop]
        loop.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        loop.neighbors.insert(batch.src, batch.dst)
    for module in (loop.memory, loop.gnn, loop.link_pred):
        module.train(False)
    return loop


def _ends(lists: Candidates, events: range) -> list[tuple[int, int]]:
    ptr = lists.ptr[events.start - lists.first : events.stop - lists.first + 1].tolist()
    return list(itertools.pairwise(ptr))


def _mrr(scores: list[torch.Tensor]) -> float:
    return sum(float(Ranking.of(each.view(-1, 1)).reciprocal) for each in scores) / len(scores)


def _evaluate(loop: pyg_loop.TGNLoop, events: range, lists: Candidates, ours: bool) -> float:
    """Evaluates PyG's modules on some events, the head's weights in our class if so wanted, and returns the MRR."""
    head: torch.nn.Module = loop.link_pred
    if ours:
        head = LinkPredictor(DIM)
        head.load_state_dict(loop.link_pred.state_dict())

    def embed(n_id: torch.Tensor, edge_index: torch.Tensor, t: torch.Tensor, msg: torch.Tensor) -> torch.Tensor:
        z, last_update = loop.memory(n_id)
        out: torch.Tensor = loop.gnn(z, last_update, edge_index, t, msg)
        return out

    metrics = evaluate_links(
        loop.workload.data,
        events,
        negatives=lists,
        embed=embed,
        score=head,
        update=loop.memory.update_state,
        batch_size=loop.workload.batch_size,
        num_neighbors=[NUM_NEIGHBORS],
    )
    return metrics.mrr


def _builtin(settings: Settings, workload: Workload) -> tuple[list[float], list[float]]:
    """Returns the seconds that an event takes the built-in model with many negatives and with one, in turns."""
    found: tuple[list[float], list[float]] = ([], [])
    config = TrainConfig(batch_size=settings.batch_size, threads=settings.threads, tensorboard=False)
    trainer = Trainer(workload.data, config)
    kinds = [
        tgb_candidates(workload.data, workload.train, workload.val, num, seed=0) for num in (settings.negatives, 1)
    ]
    for _ in range(settings.rounds):
        for lists, seconds in zip(kinds, found, strict=True):
            trainer.batches.rank_among("val", lists)
            batches = trainer.batches("val", evaluation=True)
            batches.events = batches.events[: settings.batches * settings.batch_size]
            trainer.model.train()
            trainer.model.state.clear(0)
            began = time.perf_counter()
            scores = score_batches(trainer.objective, batches, range(len(batches)))
            trainer.task.metrics(list(scores.values()), batches.events)
            seconds.append((time.perf_counter() - began) / len(batches.events))
    return found


def _memory(settings: Settings, events: int, negatives: int, quick: bool) -> dict[str, Any]:
    """Returns what an evaluation of some test events, or of all, holds at its peak, in a process of its own."""
    given = [settings.stream, str(settings.batch_size), str(events), str(negatives), str(int(quick))]
    command = [sys.executable, "-m", "benchmarks.tgb_evaluation", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _peak() -> int:
    """Returns the peak of this process's memory in bytes; what getrusage tells begins with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _evaluate_alone(stream: str, batch_size: int, events: int, negatives: int, quick: bool) -> dict[str, Any]:
    """Evaluates in this process, and returns its peak of memory before and after."""
    torch.set_num_threads(1)
    data = load_workload(stream, batch_size, seed=0, quick=quick).data
    share = 0.15 if not events else min(events / data.num_events, 0.7)
    config = TrainConfig(
        batch_size=batch_size, eval_negatives=negatives, protocol="tgb", test_ratio=share, threads=1, tensorboard=False
    )
    trainer = Trainer(data, config)
    before = _peak()
    began = time.perf_counter()
    metrics = trainer.evaluate("test")
    seconds = time.perf_counter() - began
    after = _peak()
    return {
        "events": len(trainer.split.test),
        "negatives": negatives,
        "seconds": seconds,
        "peak_before_bytes": before,
        "peak_bytes": after,
        "mrr": getattr(metrics, "mrr", None),
    }


BENCHMARK = Benchmark(
    "tgb_evaluation",
    "TGB's protocol: a pass for each event as in its example, against one for each batch",
    6,
    measure,
    Settings(),
    quick=Settings(batch_size=50, negatives=20, rounds=1, single=3, batches=2, large=(100, 5)),
)

if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    size, num_events, num_negatives, is_quick = map(int, numbers)
    print(json.dumps(_evaluate_alone(name, size, num_events, num_negatives, bool(is_quick))))
