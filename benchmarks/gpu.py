"""All that is to be known of a GPU, in one call of a few minutes.

- tests: the tests that need a CUDA device
- exactness: whether ``exact`` equals ``sequential`` bit for bit, and ``sequential`` itself
- modes: the rate of every consistency mode, node memory and features on the host, as MSPipe has them, and on the device
- batch_sizes: the rate of some modes at each batch size
- peers: PyG's loop and TGM's, beside the same loop with the package's memory and the package's own training
- evaluation: the rates of an epoch of training and of its validation

A part, or a row of one, that fails is a row that says so, and the others go on; so does one that there is no time for.
"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch_geometric
from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run
from benchmarks.harness.gpu_pass import GpuPass, rows_of, take_turns
from benchmarks.harness.workload import Workload, load_workload
from benchmarks.peers import drop_in, pyg_loop
from benchmarks.peers.link_loop import LinkLoop
from pyg_mspipe.training import EpochDone, Event, PartBegun, TrainConfig, Trainer

Rows = list[dict[str, Any]]
MODES = ("sequential", "0", "exact", "minimal", "1", "2", "4")


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``turns`` are timed, of ``batches`` after some untimed ones, until ``seconds`` are over."""

    stream: str = "wikipedia"
    batch_size: int = 600
    batch_sizes: tuple[int, ...] = (200, 600, 2000, 4000)
    hops: tuple[int, ...] = (1, 2)
    turns: int = 4
    untimed: int = 6
    batches: int = 20
    seconds: float = 480.0


class Parts:
    """Collects the rows of parts, whatever happens in them.

    Args:
        settings: Of the benchmark.
        run: Of the benchmark.
    """

    def __init__(self, settings: Settings, run: Run) -> None:
        self.settings = settings
        self.run = run
        self.rows: dict[str, Rows] = {}
        self._end = time.perf_counter() + settings.seconds

    @property
    def seconds_left(self) -> float:
        """How long there is still time."""
        return self._end - time.perf_counter()

    def add(self, part: str, what: str, measure: Callable[[], Rows]) -> None:
        """Adds rows to a part: those that are measured, or one that says why there are none."""
        rows, began = self.rows.setdefault(part, []), time.perf_counter()
        try:
            if self.seconds_left < 0:
                raise TimeoutError(f"no time is left of {self.settings.seconds:g} s")
            found = measure()
        except Exception as error:
            found = [{"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()[-3000:]}]
        seconds = round(time.perf_counter() - began, 3)
        rows += [{"what": what, "seconds": seconds, **row} for row in found]
        table = Table("what", "row", title=part)
        for row in found:
            shown = {name: value for name, value in row.items() if name not in ("traceback", "tail", "ms_per_batch")}
            table.add_row(what, str(shown))
        self.run.console.print(table, markup=False)


def run_tests(seconds: float, quick: bool) -> Rows:
    """Runs the tests that need a CUDA device, or collects them."""
    files = ["tests/cuda", "tests/data/test_feature_store.py", "tests/memory/test_mitigation.py"]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", *files]
    command += ["--collect-only"] * quick
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    lines = done.stdout.splitlines()
    row: dict[str, Any] = {"exit_code": done.returncode, "summary": lines[-1] if lines else "", "tail": lines[-60:]}
    if done.returncode:
        row["error"] = f"pytest: {row['summary']} {done.stderr[-1000:]}"
    return [row]


def exactness(work: Workload, settings: Settings, layers: int, host: bool) -> Rows:
    """Compares two sequential trainings and an exact one; sums whose order is free would make equal runs differ."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        passes = [
            GpuPass(work, host=host, staleness=mode, layers=layers) for mode in ("sequential", "sequential", "exact")
        ]
        take_turns(passes, 1, settings.untimed, settings.batches)
        rows = rows_of(passes, host=host)
        states = [each.trainer.model.state.save() for each in passes]
    finally:
        torch.use_deterministic_algorithms(before)
    for row, state in zip(rows, states, strict=True):
        row["same_memory_as_first"] = all(torch.equal(state[name], states[0][name]) for name in state)
    return rows


def rates(
    work: Workload, settings: Settings, modes: tuple[str, ...], *, host: bool, layers: int = 1, **more: Any
) -> Rows:
    """Returns a row for each mode, the first being what the others are held against."""
    passes = [GpuPass(work, host=host, staleness=mode, layers=layers, **more) for mode in modes]
    take_turns(passes, settings.turns, settings.untimed, settings.batches)
    return rows_of(passes, host=host)


def peer_rate(start: Callable[[Workload, int], LinkLoop[Any]], work: Workload, settings: Settings) -> Rows:
    """Returns the rate of another loop, made and trained on the GPU; it waits for each batch's loss, as PyG's does."""
    on_device = replace(work, data=work.data.clone().to("cuda"))
    seconds = []
    # PyG does without a torch_scatter that was built for the CPU alone.
    with patch.object(torch_geometric.typing, "WITH_TORCH_SCATTER", False):
        with torch.device("cuda" if start is pyg_loop.start else "cpu"):  # PyG's sampler is not moved later
            loop = start(on_device, 0)
        loop.to(torch.device("cuda"))
        steps = _epochs(loop)
        for _ in range(1 + settings.turns):
            torch.cuda.synchronize()
            began = time.perf_counter()
            losses = list(islice(steps, settings.batches))
            torch.cuda.synchronize()
            seconds.append((time.perf_counter() - began) / len(losses))
    rate = work.batch_size / median(seconds[1:])
    return [{"batch_size": work.batch_size, "events_per_second": rate, "last_loss": losses[-1]}]


def _epochs(loop: LinkLoop[Any]) -> Iterator[float]:
    epoch = 0
    while True:
        yield from loop.train(epoch)
        epoch += 1


def peers() -> dict[str, Callable[[Workload, int], LinkLoop[Any]]]:
    """Returns the loops beside the package's own training, by name."""
    found: dict[str, Callable[[Workload, int], LinkLoop[Any]]] = {
        "PyG loop": pyg_loop.start,
        "drop-in": drop_in.start,
    }
    if find_spec("tgm"):
        from benchmarks.peers import tgm_loop

        found["TGM loop"] = tgm_loop.start
    return found


def evaluation(work: Workload, candidates: int) -> Rows:
    """Trains an epoch and validates, as a user does, and returns the rates of both."""
    began, rows = [0.0], []

    def listen(event: Event) -> None:
        if isinstance(event, PartBegun) and event.part == "validate":
            torch.cuda.synchronize()
            began[0] = time.perf_counter()
        elif isinstance(event, EpochDone):
            seconds = time.perf_counter() - began[0]
            numbers = {name: value for name, value in vars(event.metrics).items() if isinstance(value, float)}
            rates = {"training_events_per_second": event.rate, "validation_events_per_second": len(work.val) / seconds}
            rows.append({"candidates": candidates, **rates, "metrics": numbers})

    config = TrainConfig(
        epochs=1, batch_size=work.batch_size, device="cuda", tensorboard=False, eval_negatives=candidates
    )
    Trainer(work.data, config, listeners=[listen]).fit()
    return rows


def measure(settings: Settings, run: Run) -> Result:
    """Measures all parts."""
    parts = Parts(settings, run)
    work = load_workload(settings.stream, settings.batch_size, seed=0, quick=run.quick)
    places = {"host": True, "device": False}
    for layers in settings.hops:
        for place, host in places.items():
            name = f"{layers} hops, memory on the {place}"
            parts.add("exactness", name, partial(exactness, work, settings, layers, host))
            parts.add("modes", name, partial(rates, work, settings, MODES, host=host, layers=layers))
    for batch_size in settings.batch_sizes:
        sized = replace(work, batch_size=batch_size)
        for place, host in places.items():
            modes = ("sequential", "exact", "minimal")
            name = f"batch {batch_size}, memory on the {place}"
            parts.add("batch_sizes", name, partial(rates, sized, settings, modes, host=host))
        if batch_size in settings.batch_sizes[::2]:
            for name, start in peers().items():
                parts.add("peers", name, partial(peer_rate, start, sized, settings))
            for precision in ("fp32", "bf16"):
                own = partial(rates, sized, settings, ("exact",), host=False, precision=precision)
                parts.add("peers", f"Trainer {precision}", own)
    for candidates in (10, 100):
        parts.add("evaluation", f"{candidates} candidates", partial(evaluation, work, candidates))
    parts.add("tests", "pytest -m cuda", partial(run_tests, max(parts.seconds_left, 60.0), run.quick))
    failed = [f"{part}: {row['what']}" for part, rows in parts.rows.items() for row in rows if "error" in row]
    if failed:
        run.console.print("failed:", failed)
    return {
        "stream": work.name,
        "cuda": torch.version.cuda,
        "memory_peak_bytes": torch.cuda.max_memory_allocated(),
        "failed": failed,
        "parts": parts.rows,
    }


def why_not() -> str | None:
    """Returns why it cannot run here."""
    return None if torch.cuda.is_available() else "this machine has no CUDA device"


BENCHMARK = Benchmark(
    "gpu",
    "tests on a GPU, events/s of each mode there, of PyG's and TGM's loops, and of evaluation",
    9,
    measure,
    Settings(),
    quick=replace(
        Settings(), stream="synthetic", batch_size=40, batch_sizes=(30,), hops=(2,), turns=1, untimed=1, batches=2
    ),
    why_not=why_not,
)
