"""What can be learned from the synthetic stream: a TGN against counting how often each destination was used."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from rich.table import Table

from benchmarks.harness.benchmark import Benchmark, Result, Run
from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.tasks import Baselines, evaluate_baselines


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: each seed is a stream and a training of its own."""

    seeds: int = 3
    epochs: int = 5
    events: int = 20_000


def measure(settings: Settings, run: Run) -> Result:
    """Measures the validation AP of both on streams of several seeds."""
    rows = []
    for seed in range(settings.seeds):
        data = synthetic(settings.events, seed=seed)
        config = TrainConfig(epochs=settings.epochs, seed=seed, threads=1, tensorboard=False)
        trainer = Trainer(data, config)
        baselines = Baselines.of(trainer.data, trainer.split.train)
        popularity = evaluate_baselines(baselines, trainer.batches("val", evaluation=True))["popularity"].ap
        best = trainer.fit().best
        rows.append({"seed": seed, "events": data.num_events, "popularity_ap": popularity, "tgn_ap": best})
        run.console.print(f"seed {seed}: popularity {popularity:.4f}, TGN {best:.4f}")
    means = {name: fmean(row[name] for row in rows) for name in ("popularity_ap", "tgn_ap")}
    table = Table("", "validation AP", title="Synthetic stream")
    table.add_row("popularity", f"{means['popularity_ap']:.4f}")
    table.add_row(f"TGN, best of {settings.epochs} epochs", f"{means['tgn_ap']:.4f}")
    run.console.print(table)
    return {
        "lr": TrainConfig().lr,
        "cut_off": "batch",
        "negatives": "1 per event, destinations",
        "rows": rows,
        "means": means,
    }


BENCHMARK = Benchmark(
    "synthetic_stream",
    "AP on the synthetic stream of a TGN and of popularity",
    1,
    measure,
    Settings(),
    quick=Settings(seeds=1, epochs=1, events=3_000),
)
