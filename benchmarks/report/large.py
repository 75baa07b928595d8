"""The blocks of streams larger than memory."""

from __future__ import annotations

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import command, machine, table


def large_stream(result: Result) -> str:
    """Conversion, opening, start and rate."""
    settings, training, rates = result["settings"], result["training"], result["rates"]["events_per_second"]
    read = result["rates"]["rows_per_batch"]
    rows = [
        [
            f"conversion of {name} events",
            f"{result[name]['events_per_second']:,.0f} events/s",
            f"{result[name]['seconds']:,.0f} s, {result[name]['peak_rss'] / 1e9:.2f} GB at the peak, "
            f"{result[name]['rss_before'] / 1e9:.2f} GB of them before it began",
        ]
        for name in ("ordered", "shuffled")
    ]
    seconds = training["seconds_to"]
    rows += [
        ["opening", f"{1000 * result['opening']['seconds']:.1f} ms", "in a process that has Python's packages loaded"],
        [
            "the first training step",
            f"{seconds['first_step']:.1f} s after the start",
            f"{seconds['imported']:.1f} s of them to load packages, "
            f"{seconds['trainer_made'] - seconds['imported']:.1f} "
            f"s to open the stream and make the trainer",
        ],
        [
            "memory of a process that trains",
            f"{training['anonymous'] / 1e9:.2f} GB",
            f"of which {training['state_bytes'] / 1e9:.2f} GB are node memory; and "
            f"{(training['rss'] - training['anonymous']) / 1e9:.2f} GB of the page cache",
        ],
        [
            "training, events/s",
            f"{rates['large']:,.0f}",
            f"{rates['small']:,.0f} on a stream of {settings['few_events']:,} events of the same shape: a ratio of "
            f"{rates['large'] / rates['small']:.2f}; a batch reads {read['large']:,.0f} nodes, and "
            f"{read['small']:,.0f} there",
        ],
    ]
    about = (
        f"{settings['events']:,} events without features, {result['ordered']['nodes']:,} nodes, "
        f"{result['ordered']['bytes_per_event']:.0f} bytes an event on the disk; `--memory` of "
        f"{settings['memory'] / 1e9:g} GB; TGN, batch {settings['batch_size']}, `exact`, {settings['threads']} thread. "
        f"{machine(result)}."
    )
    return "\n\n".join([command(result), about, table(["", "", ""], rows)])
