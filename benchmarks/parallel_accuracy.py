"""AP of many trainers, against steps and against time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import SINGLE, STATIC, Training, mean_and_deviation

PLANS: dict[str, tuple[str, tuple[str, ...]]] = {
    SINGLE: (SINGLE, ()),
    "1x1x2": ("1x1x2", ()),
    "1x2x1": ("1x2x1", ()),
    "1x2x1, lr unscaled": ("1x2x1", ("--lr-scaling", "none")),
    "2x1x1": ("2x1x1", ()),
    "2x1x1, static": ("2x1x1", STATIC),
    "1x2x2": ("1x2x2", ()),
}


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: each event is trained so many times. All plans are tried on the first stream."""

    streams: tuple[str, ...] = ("wikipedia", "collegemsg")
    others: tuple[str, ...] = (SINGLE, "1x1x2", "1x2x1")
    plans: tuple[str, ...] = tuple(PLANS)
    seeds: int = 3
    epochs: int = 6


def measure(settings: Settings, run: Run) -> Result:
    """Trains plans for the same number of events and follows their AP."""
    rows = []
    for name in settings.streams:
        stream = str(find_stream(name) or "synthetic")
        for label in settings.plans if name == settings.streams[0] else settings.others:
            plan, flags = PLANS[label]
            curves = []
            for seed in range(settings.seeds):
                lines = Training(stream, plan, seed, settings.epochs, flags)()
                seconds = accumulate(line["trained"] / line["rate"] for line in lines)
                curves.append(
                    [
                        {"step": line["step"] + 1, "epoch": line["epoch"] + 1, "seconds": moment, "ap": line["ap"]}
                        for line, moment in zip(lines, seconds, strict=True)
                    ]
                )
                aps = " ".join(f"{point['ap']:.4f}" for point in curves[-1])
                run.console.print(f"{name}  {label}  seed {seed}: {curves[-1][-1]['step']} steps, AP {aps}")
            mean, deviation = mean_and_deviation([max(point["ap"] for point in curve) for curve in curves])
            steps = curves[0][-1]["step"]
            rows.append(
                {
                    "stream": name,
                    "plan": label,
                    "best_ap": mean,
                    "stdev_ap": deviation,
                    "steps": steps,
                    "curves": curves,
                }
            )
    return {"batch_size": 200, "lr": "1e-3 x world", "rows": rows}


BENCHMARK = Benchmark(
    "parallel_accuracy",
    "AP of many trainers against steps and time",
    30,
    measure,
    Settings(),
    quick=Settings(streams=("synthetic",), plans=(SINGLE, "1x1x2"), seeds=1, epochs=1),
)
