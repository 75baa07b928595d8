"""The blocks of what a GPU is asked for."""

from __future__ import annotations

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import command, machine, percent, table

PLACES = {
    "training thread": "training thread",
    "mspipe-sample": "sampling thread",
    "mspipe-copy": "gather and fetch thread",
    "mspipe-update": "commit thread",
    "captured": "within the graphs",
    "MainThread": "scoring thread",
}


def gpu_counts(result: Result) -> str:
    """Counts per step, and what batches are padded to."""
    rows = []
    for row in result["rows"]:
        for part, what in (("training", "training step"), ("evaluation", "evaluation batch")):
            for place, name in PLACES.items():
                each = row[part].get(place)
                if each is not None:
                    counts = (f"{each[kind]:.0f}" for kind in ("dispatches", "launches", "copies"))
                    waits = f"{each['syncs']:.1f}".rstrip("0").rstrip(".")
                    rows.append([f"{row['batch_size']:,}", what, name, *counts, waits])
    sizes = [
        [
            f"{row['batch_size']:,}",
            ", ".join(f"{size['nodes']:,} / {size['targets'][0]:,}" for size in row["sizes"]),
            ", ".join(map(str, row["batches_of_size"])),
            str(row["batches_larger_than_all"]),
            f"{percent(row['padding_share']['nodes'])} / {percent(row['padding_share']['targets'])}",
        ]
        for row in result["rows"]
    ]
    settings = result["settings"]
    graphs = ", ".join(str(row["steps_of_graphs"]) for row in result["rows"])
    hazards = sum(row["hazards"] for row in result["rows"])
    unordered = sum(row["sums_without_order"] for row in result["rows"])
    return "\n\n".join(
        [
            command(result),
            f"{result['stream']}, TGN, one layer, `exact`, counted without a GPU: means of the steps among "
            f"{settings['steps']} that were graphs ({graphs}); "
            f"waits are those of the host. {machine(result)}.",
            table(["batch", "", "where", "operations", "launches", "copies", "waits"], rows),
            f"Within the graphs stands no operation that a graph cannot hold; {unordered} sums without a fixed order; "
            f"{hazards} reads or writes that no stream and no event orders.",
            table(["batch", "sizes, nodes / targets", "batches of each", "larger than all", "share added"], sizes),
        ]
    )
