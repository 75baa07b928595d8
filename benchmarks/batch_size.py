"""AP as batches grow, with static node memory and without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import STATIC, Training, mean_and_deviation


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: ``jobs`` trainings at once, a thread each."""

    stream: str = "wikipedia"
    sizes: tuple[int, ...] = (200, 600, 1200, 2400)
    seeds: int = 3
    epochs: int = 3
    jobs: int = 2


def measure(settings: Settings, run: Run) -> Result:
    """Trains one trainer at each batch size."""
    stream = str(find_stream(settings.stream) or "synthetic")
    cases = list(product(settings.sizes, (False, True)))
    todo = [
        Training(
            stream,
            seed=seed,
            epochs=settings.epochs,
            flags=("--batch-size", str(size), *(STATIC if static else ())),
        )
        for size, static in cases
        for seed in range(settings.seeds)
    ]
    with ThreadPoolExecutor(settings.jobs) as pool:
        best = pool.map(lambda training: max(line["ap"] for line in training()), todo)
        rows = []
        for size, static in cases:
            aps = [next(best) for _ in range(settings.seeds)]
            mean, deviation = mean_and_deviation(aps)
            rows.append({"batch_size": size, "static": static, "ap": aps, "mean_ap": mean, "stdev_ap": deviation})
            run.console.print(f"batch {size}{', static' if static else ''}: AP {mean:.4f}")
    return {"stream": Path(stream).stem, "lr": 1e-3, "rows": rows}


BENCHMARK = Benchmark(
    "batch_size",
    "AP as batches grow, with static node memory and without",
    14,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", sizes=(200,), seeds=1, epochs=1),
)
