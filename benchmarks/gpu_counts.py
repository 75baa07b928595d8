"""What a training step and an evaluation batch ask of a GPU: launches, waits and copies, counted without one.

A stand-in takes a GPU's place: it runs the package's code under CUDA's rules and counts. It takes no time, so nothing
here is a rate. What batches are padded to is counted too, on all batches of the stream.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run
from benchmarks.harness.stand_in import CAPTURED, stand_in, why_not
from benchmarks.harness.workload import load_workload
from pyg_mspipe import TrainConfig, Trainer
from pyg_mspipe.training.single import padding_for

KINDS = ("dispatches", "launches", "syncs", "copies")
NOT_IN_A_GRAPH = ("nonzero", "_local_scalar_dense", "_unique2", "unique_dim", "masked_select", "item", "equal")


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        stream: A file or the name of a real stream.
        batch_sizes: Events in a batch.
        untimed: Steps before the counted ones, for each batch size, in which graphs of all sizes are recorded.
        steps: Steps that are counted.
    """

    stream: str = "wikipedia"
    batch_sizes: tuple[int, ...] = (200, 2000)
    untimed: tuple[int, ...] = (120, 40)
    steps: int = 12


def untimed_of(settings: Settings, batch_size: int) -> int:
    """Returns how many steps of a batch size are not counted."""
    return settings.untimed[settings.batch_sizes.index(batch_size)]


def _trainer(settings: Settings, batch_size: int, device: str, quick: bool) -> Trainer:
    work = load_workload(settings.stream, batch_size, seed=0, quick=False)
    # As many events as it takes; padding is looked at on all of them.
    need = round(batch_size * (untimed_of(settings, batch_size) + settings.steps + 3) / 0.7)
    data = work.data[: min(need, work.data.num_events)] if device == "cuda" or quick else work.data
    config = TrainConfig(batch_size=batch_size, epochs=1, device=device, staleness="exact", overlap="always")
    return Trainer(data, config)


def _sections(gpu: Any, steps: int) -> dict[str, dict[str, float]]:
    """Returns counts per step, by the thread or section that has them."""
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for key, count in getattr(gpu.counts, kind).items():
            each = found.setdefault(key[0], dict.fromkeys(KINDS, 0.0))
            each[kind] += count / steps
    return {name: {kind: round(count, 2) for kind, count in each.items()} for name, each in sorted(found.items())}


def _count(settings: Settings, batch_size: int, quick: bool) -> Result:
    """Counts in this process, which has done no backward pass before."""
    untimed = untimed_of(settings, batch_size)
    with stand_in(strict=True) as gpu:
        trainer = _trainer(settings, batch_size, "cuda", quick)
        trainer.listeners.clear()
        trainer._listening = lambda event: None  # type: ignore[assignment]  # nobody listens to a sweep begun by hand
        executor = trainer.executor
        with executor.running(), executor.sweep(0, 0, 0) as train:
            for step in range(untimed):
                train(step)
            sums, hazards, unordered, replayed = Counter[tuple[str, str]](), 0, 0, 0
            captured = Counter[str]()
            for step in range(untimed, untimed + settings.steps):
                gpu.reset()
                with gpu.section("training thread"):
                    train(step)
                hazards, unordered = hazards + len(gpu.hazards), unordered + sum(gpu.counts.unordered.values())
                own = {key[1]: n for key, n in gpu.counts.dispatches.items() if key[0] == CAPTURED}
                if own:  # the first steps of a size are launched one operation at a time
                    replayed += 1
                    captured.update(own)
                    for kind in KINDS:
                        for key, count in getattr(gpu.counts, kind).items():
                            sums[key[0], kind] += count
            gpu.reset()
            for step in range(untimed + settings.steps, len(executor.counts())):
                train(step)
        hazards += len(gpu.hazards)
        gpu.reset()
        trainer.evaluate("val")
        evaluation = _sections(gpu, len(trainer.batches("val")))
        return {
            "training": {
                place: {kind: round(sums[place, kind] / max(replayed, 1), 2) for kind in KINDS}
                for place in sorted({place for place, _ in sums})
            },
            "steps_of_graphs": replayed,
            "evaluation": evaluation,
            "captured_operations": sorted(captured),
            "not_in_a_graph": sorted(set(captured) & set(NOT_IN_A_GRAPH)),
            "sums_without_order": unordered,
            "hazards": hazards + len(gpu.hazards),
        }


def _padding(settings: Settings, batch_size: int, quick: bool) -> Result:
    """Returns the sizes for a stream, and the share of rows that are added to its batches."""
    batches = _trainer(settings, batch_size, "cpu", quick)._job.train
    padding = padding_for(batches)
    own, added, used = Counter[str](), Counter[str](), Counter[int]()
    for index in range(len(batches)):
        batch = padding(batches.draw(batches.events_of(index), 0, index))
        if batch.padded is None or batch.unpadded is None:
            used[-1] += 1
            continue
        used[padding.sizes.index(batch.padded)] += 1
        for name, before, after in (
            ("nodes", batch.unpadded.nodes, batch.padded.nodes),
            ("targets", sum(batch.unpadded.targets), sum(batch.padded.targets)),
        ):
            own[name] += before
            added[name] += after - before
    return {
        "sizes": [asdict(size) for size in padding.sizes],
        "batches_of_size": [used[i] for i in range(len(padding.sizes))],
        "batches_larger_than_all": used[-1],
        "padding_share": {name: round(added[name] / (own[name] + added[name]), 4) for name in own},
    }


def measure(settings: Settings, run: Run) -> Result:
    """Counts in a process for each batch size."""
    rows = []
    for batch_size in settings.batch_sizes:
        told = json.dumps([asdict(settings), batch_size, run.quick])
        command = [sys.executable, "-m", "benchmarks.gpu_counts", told]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        rows.append({"batch_size": batch_size, **json.loads(done.stdout.splitlines()[-1])})
    table = Table("batch", "of", "where", *KINDS, title="counts per step, without a GPU")
    for row in rows:
        for part in ("training", "evaluation"):
            for where, each in row[part].items():
                table.add_row(f"{row['batch_size']:,}", part, where, *(f"{each[kind]:.1f}" for kind in KINDS))
    run.console.print(table)
    return {"stream": load_workload(settings.stream, 200, seed=0, quick=False).name, "rows": rows}


def _child(told: str) -> None:
    given, batch_size, quick = json.loads(told)
    settings = Settings(given["stream"], tuple(given["batch_sizes"]), tuple(given["untimed"]), given["steps"])
    print(json.dumps(_count(settings, batch_size, quick) | _padding(settings, batch_size, quick)))


BENCHMARK = Benchmark(
    "gpu_counts",
    "what a step asks of a GPU: launches, waits, copies and padding, counted without one",
    3,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", batch_sizes=(50,), untimed=(12,), steps=4),
    why_not=why_not,
)

if __name__ == "__main__":
    _child(sys.argv[1])
