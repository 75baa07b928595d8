"""The blocks of what events are ranked by: protocols, heads, and batches in parts."""

from __future__ import annotations

from statistics import fmean, median, stdev

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import command, machine, spread, stream_title, table


def refine(result: Result) -> str:
    """MRR and rate of batches in parts, beside plain ones of the parts' size."""
    settings = result["settings"]
    by_key = {(row["batch_size"], row["parts"], row["way"]): row for row in result["rows"]}
    rows = []
    for size in settings["batch_sizes"]:
        for parts in settings["parts"]:
            ways = [by_key.get((size, parts, way)) for way in ("parts", "plain")]
            cells = [("", "") if row is None else (f"{row['mrr']:.4f}", f"{median(row['rates']):,.0f}") for row in ways]
            rows.append([f"{size:,}", str(parts), *(cell for each in cells for cell in each)])
    return "\n\n".join(
        [
            command(result),
            f"{result['stream']}, test MRR among {settings['negatives']} random destinations after "
            f"{settings['epochs']} epochs, and training events for each second of one thread's processor time; one "
            f"seed; {machine(result)}.",
            table(
                [
                    "batch",
                    "parts",
                    "MRR, one step for all",
                    "events/s",
                    "MRR, plain batches of a part's size",
                    "events/s",
                ],
                rows,
            ),
        ]
    )


def tgb_evaluation(result: Result) -> str:
    """What an event takes by either way, and what memory evaluation holds."""
    settings = result["settings"]
    milliseconds = [1e3 * median(row["seconds_an_event"]) for row in result["rows"]]
    rows = [
        [row["name"], f"{ms:.3f}", f"{milliseconds[0] / ms:.0f}"]
        for row, ms in zip(result["rows"], milliseconds, strict=True)
    ]
    held = " ".join(
        f"Evaluating {each['events']:,} events with {each['negatives']} negatives, all in one process with the stream, "
        f"its features and PyTorch, held at most {each['peak_bytes'] / 1e9:.2f} GB, of which "
        f"{each['peak_before_bytes'] / 1e9:.2f} GB before it began."
        for each in result["memory"]
    )
    return "\n\n".join(
        [
            command(result),
            f"{result['stream']}, batch {settings['batch_size']}, {settings['negatives']} negatives by TGB's rule; the "
            f"first three rows are PyG's modules with the same weights. Medians of {settings['rounds']} rounds in "
            f"turns, {settings['threads']} thread, one seed; {machine(result)}.",
            table(["", "ms an event", "times as fast"], rows),
            f"MRR of the first three on the same events: apart by {result['largest_mrr_difference']:.1e}, by "
            f"neighbours that PyG's `LastNeighborLoader` misses; with the same neighbours by less than 1e-6 "
            f"(`tests/tasks/test_evaluate_links.py`). {held}",
        ]
    )


def link_ranking(result: Result) -> str:
    """Test MRR of models, heads and baselines."""
    settings = result["settings"]
    streams = list(dict.fromkeys(row["stream"] for row in result["rows"]))
    names = list(dict.fromkeys(row["name"] for row in result["rows"]))
    by_key: dict[tuple[str, str], list[Result]] = {}
    for row in result["rows"]:
        by_key.setdefault((row["stream"], row["name"]), []).append(row)
    rows = []
    for name in names:
        cells = []
        for stream in streams:
            found = by_key.get((stream, name), [])
            values = [row["mrr"] for row in found]
            seconds = [row["train_seconds"] for row in found if row["train_seconds"] is not None]
            mean = spread(fmean(values), stdev(values)) if len(values) > 1 else f"{values[0]:.4f}" if values else ""
            cells.append(f"{mean} ({fmean(seconds):,.0f} s)" if seconds else mean)
        rows.append([name, *cells])
    return "\n\n".join(
        [
            command(result),
            f"Test MRR among {settings['negatives']} negatives by TGB's rule, no features, {settings['epochs']} "
            f"epochs, batch {settings['batch_size']}, the epoch with the best validation MRR, mean and standard "
            f"deviation over {settings['seeds']} seeds, and in brackets the processor time of training; "
            f"{machine(result)}.",
            table(["", *map(stream_title, streams)], rows),
        ]
    )
