"""A stream larger than memory: its conversion, its opening, the start of a training on it, and the training's rate.

A generator writes Parquet files of events whose ends are drawn from a power law, once in the order of their times and
once shuffled. Each is converted in a process of its own, whose peak memory is taken. Training on the folder is compared
with training on the file of a small stream of the same shape, in batches of the same size at the end of the training
events, in turns.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet
from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run
from pyg_mspipe.data import convert_stream, load_stream
from pyg_mspipe.training import TrainConfig, Trainer

_BLOCK = 1_000_000
_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        events: Of the large stream.
        events_per_node: How many there are for each node.
        few_events: Of the small stream, which has as many events for each node.
        memory: Bytes that a conversion may use.
        batch_size: Events in a training step.
        steps: Training steps that are timed, in turns of the two streams.
        turn: Steps of a turn.
        folder: Where files are written and kept, and what was measured too, so that a run that was cut off goes on; by
            default a temporary folder.
        threads: torch's.
    """

    events: int = 200_000_000
    events_per_node: int = 10
    few_events: int = 2_000_000
    memory: int = 2_000_000_000
    batch_size: int = 600
    steps: int = 200
    turn: int = 20
    folder: str = ""
    threads: int = 1


def write_events(folder: Path, num_events: int, num_nodes: int, *, shuffled: bool) -> int:
    """Writes Parquet files of events, unless they are there, and returns their size in bytes.

    Args:
        folder: Where to write them.
        num_events: How many events.
        num_nodes: How many nodes there may be; node of rank r is an end as often as 1 / (r + 1).
        shuffled: Whether times come in any order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spread = 2_654_435_761  # a prime, so that busy nodes are not beside each other

    def ends(random: np.random.Generator, count: int) -> Any:
        return np.minimum(num_nodes ** random.random(count) - 1, num_nodes - 1).astype(np.int64) * spread % num_nodes

    for start in range(0, num_events, _BLOCK):
        path = folder / f"{start // _BLOCK:05}.parquet"
        if path.exists():
            continue
        count, random = min(_BLOCK, num_events - start), np.random.default_rng((0, start))
        src, dst = ends(random, count), ends(random, count)
        low, high = (0, 10 * num_events) if shuffled else (10 * start, 10 * (start + count))
        t = random.integers(low, high, count)
        table = pa.table({"src": src, "dst": dst, "t": t if shuffled else np.sort(t)})
        parquet.write_table(table, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def converted(files: Path, out: Path, memory: int, sort: bool) -> Result:
    """Converts files, and returns what that took; a process of its own has a peak memory of its own."""
    before, start = _peak(), time.perf_counter()
    folder = convert_stream([files], out, memory=memory, sort=sort, overwrite=True)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "events_per_second": folder.num_events / seconds,
        "peak_rss": _peak(),
        "rss_before": before,
        "nodes": folder.num_nodes,
        "bytes_per_event": folder.nbytes / folder.num_events,
    }


def opened(stream: Path) -> Result:
    """Opens a stream, and returns how long that took."""
    start = time.perf_counter()
    data = load_stream(stream)
    last = int(data.t[-1])
    return {"seconds": time.perf_counter() - start, "last_time": last}


def trained(stream: Path, settings: Settings) -> Result:
    """Trains from the first batch on, and returns when the first step was done, and what memory is the process's own.

    Args:
        stream: The folder, or a file.
        settings: The benchmark's.
    """
    torch.set_num_threads(settings.threads)
    began = _process_began()
    loaded = time.time()
    data = load_stream(stream)
    trainer = Trainer(data, _config(settings))
    made = time.time()
    state = trainer.model.memory.state.nbytes  # type: ignore[union-attr]
    memory = {}
    first = 0.0
    for step in _steps(trainer, 0):
        first = first or time.time()
        if step == settings.turn:
            memory = _own_memory()
            break
    times = {"imported": loaded - began, "trainer_made": made - began, "first_step": first - began}
    return {"seconds_to": times, "state_bytes": state, **memory}


def rates(large: Path, small: Path, settings: Settings) -> Result:
    """Trains on both streams in turns, at the end of their training events, and returns seconds for each turn."""
    torch.set_num_threads(settings.threads)
    passes, rows = {}, {}
    for name, stream in (("large", large), ("small", small)):
        trainer = Trainer(load_stream(stream), _config(settings))
        batches = trainer.batches("train")
        last = range(len(batches) - min(settings.turn, len(batches)), len(batches))
        rows[name] = fmean(batches.draw(batches.events_of(i), 0, i).n_id.numel() for i in last)
        passes[name] = _steps(trainer, max(len(batches) - settings.steps - settings.turn, 0))
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(settings.steps // settings.turn):
        for name in sorted(passes, reverse=bool(turn % 2)):
            start = time.perf_counter()
            for _, _ in zip(range(settings.turn), passes[name], strict=False):
                pass
            seconds[name].append(time.perf_counter() - start)
    for each in passes.values():
        each.close()
    events = settings.turn * settings.batch_size
    return {
        "seconds": seconds,
        "rows_per_batch": rows,
        "events_per_second": {name: events / median(each[1:] or each) for name, each in seconds.items()},
    }


def _config(settings: Settings) -> TrainConfig:
    return TrainConfig(batch_size=settings.batch_size, staleness="exact", tensorboard=False)


def _steps(trainer: Trainer, first: int) -> Any:
    count = len(trainer.batches("train"))
    trainer._listening = _hear_nothing  # type: ignore[assignment]  # which fit sets
    with trainer.executor.running(), trainer.executor.sweep(0, first, first) as train:
        trainer.model.train()
        for step in range(first, count):
            train(step)
            yield step


def _hear_nothing(event: object) -> None:
    pass


def _own_memory() -> Result:
    path = Path("/proc/self/smaps_rollup")
    if not path.exists():
        return {}
    rows = (line.split() for line in path.read_text().splitlines()[1:])
    found = {name.rstrip(":"): 1024 * int(value) for name, value, *_ in rows}
    wanted = {
        "Rss": "rss",
        "Anonymous": "anonymous",
        "Private_Dirty": "private_dirty",
        "Private_Clean": "private_clean",
    }
    return {short: found[name] for name, short in wanted.items()}


def _process_began() -> float:
    """Returns the time at which this process was started."""
    uptime, began = Path("/proc/uptime"), Path("/proc/self/stat")
    if not began.exists():
        return time.time()
    ticks = int(began.read_text().rsplit(")", 1)[1].split()[19])
    return time.time() - float(uptime.read_text().split()[0]) + ticks / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    path = Path("/proc/self/status")
    if path.exists():  # getrusage counts what the process that started this one had
        return 1024 * next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("VmHWM"))
    return _UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _alone(kept: Path, function: Callable[..., Result], *args: object) -> Result:
    """Returns what a function measures in a new process, or has measured before."""
    if kept.exists():
        before: Result = json.loads(kept.read_text())
        return before
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(function, *args).result()
    kept.write_text(json.dumps(result))
    return result


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    if name:
        yield Path(name)
        return
    made = Path(tempfile.mkdtemp(prefix="large-stream-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def measure(settings: Settings, run: Run) -> Result:
    """Writes, converts, opens and trains."""
    result: dict[str, Any] = {"stream": f"{settings.events:,} events of a power law, without features"}
    with _folder(settings.folder) as folder:
        nodes, few = settings.events // settings.events_per_node, settings.few_events // settings.events_per_node
        result["parquet_bytes"] = write_events(folder / "ordered", settings.events, nodes, shuffled=False)
        write_events(folder / "shuffled", settings.events, nodes, shuffled=True)
        write_events(folder / "small", settings.few_events, few, shuffled=False)
        large, small = folder / "large.stream", folder / "small.stream"
        memory, done = settings.memory, folder / f"measured-{settings.events}-{settings.memory}"
        done.mkdir(exist_ok=True)
        steps: dict[str, tuple[object, ...]] = {
            "ordered": (converted, folder / "ordered", large, memory, False),
            "small": (converted, folder / "small", small, memory, False),
            "opening": (opened, large),
            "training": (trained, large, settings),
            "rates": (rates, large, small, settings),
            "shuffled": (converted, folder / "shuffled", folder / "shuffled.stream", memory, True),
        }
        for name, (function, *args) in steps.items():
            result[name] = _alone(done / f"{name}.json", function, *args)  # type: ignore[arg-type]
            run.console.print(name, result[name])
    table = Table("", "events/s", "peak RSS")
    for name in ("ordered", "shuffled"):
        table.add_row(name, f"{result[name]['events_per_second']:,.0f}", f"{result[name]['peak_rss'] / 1e9:.2f} GB")
    run.console.print(table)
    if settings.folder:
        result["seconds"] = 0.0  # unknown, as what was measured in an earlier run is not measured again
    return result


BENCHMARK = Benchmark(
    "large_stream",
    "conversion of a stream larger than memory, opening it, and training on it",
    15,
    measure,
    Settings(),
    quick=Settings(events=20_000, few_events=4_000, memory=100_000, batch_size=200, steps=8, turn=2),
)
