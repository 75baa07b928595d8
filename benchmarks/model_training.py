"""How fast TGN, JODIE and APAN train, each against the same model put together from PyG's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.measure import Trainee, Variant, interleave
from benchmarks.harness.tables import as_json, print_tables
from benchmarks.harness.workload import Workload, load_workload
from benchmarks.peers import builtin, pyg_apan, pyg_jodie, pyg_loop
from benchmarks.peers.link_loop import DIM, LEARNING_RATE, NUM_NEIGHBORS

PAIRS: dict[str, Callable[[Workload, int], Trainee]] = {
    "tgn": pyg_loop.start,
    "jodie": pyg_jodie.start,
    "apan": pyg_apan.start,
}


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: a round is an epoch of each variant, a block of batches each in turn."""

    stream: str = "wikipedia"
    batch_sizes: tuple[int, ...] = (200, 600)
    rounds: int = 1
    threads: int = 2
    seed: int = 0


def measure(settings: Settings, run: Run) -> Result:
    """Measures every model, PyG's first, at every batch size."""
    runs = []
    for batch_size in settings.batch_sizes:
        workload = load_workload(settings.stream, batch_size, seed=settings.seed, quick=run.quick)
        for model, peer in PAIRS.items():
            variants = [
                Variant(f"{model} from PyG's parts", peer),
                Variant(model, partial(builtin.start, model=model)),
            ]
            title = f"{workload.name}: {len(workload.train):,} training events, batch {batch_size}"
            run.console.rule(title)
            measured = interleave(variants, workload, rounds=settings.rounds, seed=settings.seed, log=run.console.print)
            print_tables(run.console, title, measured)
            runs.append({"model": model, "batch_size": batch_size, "variants": as_json(measured)})
    return {
        "workload": {
            "stream": workload.name,
            "training_events": len(workload.train),
            "nodes": workload.num_nodes,
            "msg_dim": workload.msg_dim,
        },
        "model": {"width": DIM, "neighbors": NUM_NEIGHBORS, "learning_rate": LEARNING_RATE},
        "runs": runs,
    }


BENCHMARK = Benchmark(
    "model_training",
    "events/s of TGN, JODIE and APAN against the same models from PyG's parts",
    8,
    measure,
    Settings(),
    quick=replace(Settings(), batch_sizes=(200,), threads=1),
)
