"""Benchmark 1: how fast a TGN trains, against PyG's example loop.

python -m benchmarks.tgn_training [--stream PATH] [--batch-size 200 600] [--rounds 3] [--threads 2] [--quick]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.floor import product_floor
from benchmarks.machine import describe_machine
from benchmarks.measure import Variant, interleave, profile
from benchmarks.peers import builtin_tgn, drop_in, pyg_loop
from benchmarks.report import as_json, print_tables, write_json
from benchmarks.workload import load_workload

ROOT = Path(__file__).parents[1]
WIKIPEDIA = ROOT.parent / "shared" / "data" / "wikipedia.npz"

VARIANTS = (
    Variant("PyG loop", pyg_loop.start),
    Variant("drop-in", drop_in.start),
    Variant("TGN fp32", builtin_tgn.start),
    Variant("TGN bf16", partial(builtin_tgn.start, precision="bf16")),
)
"""The baseline first. drop-in: PyG's loop with pyg_mspipe's memory and sampler. TGN: pyg_mspipe's own model."""


def main() -> None:
    """Measures every variant at every batch size, prints tables and writes the results."""
    args = _parse()
    console = Console()
    torch.set_num_threads(args.threads)
    machine = describe_machine()
    console.print(
        f"{machine['cpu']}, {args.threads} threads, torch {torch.__version__}, load average {machine['load_average']}"
    )

    runs = []
    for batch_size in args.batch_size:
        load = partial(load_workload, args.stream, batch_size, seed=args.seed, quick=args.quick)
        workload = load()
        title = f"{workload.name}: {len(workload.train):,} training events, batch {batch_size}"
        console.rule(title)
        measurements = interleave(VARIANTS, workload, rounds=args.rounds, seed=args.seed, log=console.print)
        for variant, measurement in zip(VARIANTS, measurements, strict=True):
            measurement.profile = profile(variant, load, seed=args.seed, threads=args.threads)
        print_tables(console, title, measurements)
        floor = product_floor(workload)
        console.print("matrix products of the built-in TGN alone, ms per batch:", floor)
        runs.append({"batch_size": batch_size, "variants": as_json(measurements), "product_floor_ms": floor})

    result = {
        "benchmark": "tgn_training",
        "machine": machine,
        "workload": {
            "stream": workload.name,
            "training_events": len(workload.train),
            "validation_events": len(workload.val),
            "nodes": workload.num_nodes,
            "msg_dim": workload.msg_dim,
            "cut_off": "batch",
            "negatives": "1 per event, uniform over the range of destinations",
        },
        "model": {
            "width": pyg_loop.DIM,
            "neighbors": pyg_loop.NUM_NEIGHBORS,
            "heads": pyg_loop.HEADS,
            "dropout": pyg_loop.DROPOUT,
            "learning_rate": pyg_loop.LEARNING_RATE,
        },
        "rounds": args.rounds,
        "seed": args.seed,
        "runs": runs,
    }
    path = ROOT / "benchmarks" / "results" / f"tgn_training{'-quick' if args.quick else ''}.json"
    write_json(path, result)
    console.print(f"written to {path}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tgn_training", description="TGN training against PyG.")
    parser.add_argument(
        "--stream",
        type=Path,
        default=WIKIPEDIA if WIKIPEDIA.exists() else None,
        help="file to train on (default: %(default)s; None is a synthetic stream)",
    )
    parser.add_argument("--batch-size", type=int, nargs="+", default=[200, 600], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch's (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and negatives (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="the first few thousand events, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
