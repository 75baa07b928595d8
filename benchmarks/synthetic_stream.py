"""What can be learned from the synthetic stream: a TGN against counting how often each destination was used.

python -m benchmarks.synthetic_stream [--seeds 3] [--epochs 5] [--quick]
"""

from __future__ import annotations

import argparse
from statistics import fmean

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.report import write_json
from benchmarks.tgn_training import ROOT
from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.data import popularity_ap


def main() -> None:
    """Measures the validation AP of both on streams of several seeds, prints it and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_stream", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="streams, and trainings (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one small stream, to see that it runs")
    args = parser.parse_args()
    console = Console()
    torch.set_num_threads(1)
    rows = []
    for seed in range(1 if args.quick else args.seeds):
        data = synthetic(3_000, num_src=100, num_dst=100, seed=seed) if args.quick else synthetic(seed=seed)
        config = TrainConfig(epochs=args.epochs, seed=seed, threads=1, tensorboard=False)
        trainer = Trainer(data, config)
        val = trainer.split.val
        negatives = trainer.batches("val").negatives(len(val), epoch=0, batch=0)
        popularity = popularity_ap(data, val, negatives)
        best = trainer.fit().best_ap
        rows.append({"seed": seed, "events": data.num_events, "popularity_ap": popularity, "tgn_ap": best})
        console.print(f"seed {seed}: popularity {popularity:.4f}, TGN {best:.4f}")
    means = {name: fmean(row[name] for row in rows) for name in ("popularity_ap", "tgn_ap")}
    table = Table("", "validation AP", title="Synthetic stream")
    table.add_row("popularity", f"{means['popularity_ap']:.4f}")
    table.add_row(f"TGN, best of {args.epochs} epochs", f"{means['tgn_ap']:.4f}")
    console.print(table)
    result: dict[str, object] = {
        "benchmark": "synthetic_stream",
        "machine": describe_machine(),
        "config": {
            "epochs": args.epochs,
            "lr": TrainConfig().lr,
            "cut_off": "batch",
            "negatives": "1 per event, destinations",
        },
        "rows": rows,
        "means": means,
    }
    path = ROOT / "benchmarks" / "results" / f"synthetic_stream{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
