"""How fast a TGN trains, against PyG's example loop and, where the extra ``peers`` is installed, TGM's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.floor import product_floor
from benchmarks.harness.measure import Variant, interleave, profile
from benchmarks.harness.tables import as_json, print_tables
from benchmarks.harness.workload import load_workload
from benchmarks.peers import builtin, drop_in, pyg_loop
from benchmarks.peers.link_loop import DIM, DROPOUT, HEADS, LEARNING_RATE, NUM_NEIGHBORS


def variants() -> list[Variant]:
    """Returns what is measured, the baseline first.

    drop-in: PyG's loop with pyg_mspipe's memory and sampler. TGN: pyg_mspipe's own model.
    """
    found = [
        Variant("PyG loop", pyg_loop.start),
        Variant("drop-in", drop_in.start),
        Variant("TGN fp32", builtin.start),
        Variant("TGN bf16", partial(builtin.start, precision="bf16")),
    ]
    if find_spec("tgm"):
        from benchmarks.peers import tgm_loop

        found.insert(1, Variant("TGM loop", tgm_loop.start))
    return found


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: a round is an epoch of each variant, a block of batches each in turn."""

    stream: str = "wikipedia"
    batch_sizes: tuple[int, ...] = (200, 600)
    rounds: int = 3
    threads: int = 2
    seed: int = 0


def measure(settings: Settings, run: Run) -> Result:
    """Measures every variant at every batch size."""
    runs = []
    for batch_size in settings.batch_sizes:
        load = partial(load_workload, settings.stream, batch_size, seed=settings.seed, quick=run.quick)
        workload = load()
        title = f"{workload.name}: {len(workload.train):,} training events, batch {batch_size}"
        run.console.rule(title)
        measurements = interleave(
            variants(), workload, rounds=settings.rounds, seed=settings.seed, log=run.console.print
        )
        for variant, measurement in list(zip(variants(), measurements, strict=True))[: 1 if run.quick else None]:
            measurement.profile = profile(variant, load, seed=settings.seed, threads=settings.threads)
        print_tables(run.console, title, measurements)
        floor = product_floor(workload)
        run.console.print("matrix products of the built-in TGN alone, ms per batch:", floor)
        runs.append({"batch_size": batch_size, "variants": as_json(measurements), "product_floor_ms": floor})
    return {
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
            "width": DIM,
            "neighbors": NUM_NEIGHBORS,
            "heads": HEADS,
            "dropout": DROPOUT,
            "learning_rate": LEARNING_RATE,
        },
        "peers": {"tgm-lib": metadata.version("tgm-lib")} if find_spec("tgm") else {},
        "runs": runs,
    }


BENCHMARK = Benchmark(
    "tgn_training",
    "events/s of TGN training against PyG's example loop, and TGM's",
    13,
    measure,
    Settings(),
    quick=replace(Settings(), batch_sizes=(200,), rounds=1, threads=1),
)
