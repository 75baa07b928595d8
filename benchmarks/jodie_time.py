"""How JODIE had better measure the time since a node's last event: from the stream's start, or by the usual gaps."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.harness.launch import Training, mean_and_deviation
from pyg_mspipe import load_stream

REFERENCES = ("start", "gaps")


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: each training is an ``mspipe train`` of one thread."""

    streams: tuple[str, ...] = ("wikipedia", "collegemsg")
    seeds: int = 3
    epochs: int = 5
    batch_size: int = 200


def measure(settings: Settings, run: Run) -> Result:
    """Trains with both on every stream with every seed."""
    rows = []
    table = Table("stream", "first time", "reference", "AP", "sd")
    for name in settings.streams:
        path = find_stream(name)
        stream = str(path or "synthetic")
        first = int(load_stream(path or "synthetic").t[0])
        for reference in REFERENCES:
            flags = ("--model", "jodie", "--time-reference", reference, "--batch-size", str(settings.batch_size))
            aps = []
            for seed in range(settings.seeds):
                lines = Training(stream, seed=seed, epochs=settings.epochs, flags=flags)()
                aps.append(max(line["ap"] for line in lines))
                run.console.print(f"{name}, {reference}, seed {seed}: {aps[-1]:.4f}")
            mean, deviation = mean_and_deviation(aps)
            row = {"stream": path.stem if path else "synthetic", "first_time": first, "reference": reference}
            rows.append({**row, "mean_ap": mean, "stdev_ap": deviation, "ap_by_seed": aps})
            table.add_row(name, f"{first:,}", reference, f"{mean:.4f}", f"{deviation:.4f}")
    run.console.print(table)
    return {"rows": rows}


BENCHMARK = Benchmark(
    "jodie_time",
    "AP of JODIE with times from the stream's start, and by the usual gaps",
    5,
    measure,
    Settings(),
    quick=Settings(streams=("synthetic",), seeds=1, epochs=1, batch_size=1000),
)
