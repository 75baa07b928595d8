"""The blocks of models and tasks."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import command, machine, seeds, spread, stream_title, table

Row = dict[str, Any]


def model_accuracy(result: Result) -> str:
    """AP of every model in the modes of MSPipe's table."""
    modes = list(dict.fromkeys((row["staleness"], row["mitigation"]) for row in result["rows"]))
    by_model: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in result["rows"]:
        key = row["staleness"], row["mitigation"]
        by_model.setdefault((row["stream"], row["model"]), {})[key] = row
    headings = [f"`{staleness}`" + ("" if each == "none" else f", {each}") for staleness, each in modes]
    rows = [
        [stream_title(stream), f"`{model}`", *(_figure(each[mode]) for mode in modes)]
        for (stream, model), each in by_model.items()
    ]
    settings = result["settings"]
    return (
        f"{command(result)}\n\nValidation AP after {settings['epochs']} epochs, batch {result['batch_size']}, learning "
        f"rate {result['lr']}, mean and standard deviation over {seeds(settings['seeds'])}; one thread; "
        f"{machine(result)}. A bound of 4 misses four commits in every batch.\n\n"
        f"{table(['stream', 'model', *headings], rows)}"
    )


def model_training(result: Result) -> str:
    """Events/s of every model against the same model from PyG's parts."""
    work, settings = result["workload"], result["settings"]
    rows = []
    for each in result["runs"]:
        peer, own = each["variants"]
        rows.append(
            [
                f"`{each['model']}`",
                str(each["batch_size"]),
                f"{peer['median']:,.0f}",
                f"{own['median']:,.0f}",
                f"{own['ratio_to_baseline']:.2f}",
            ]
        )
    return (
        f"{command(result)}\n\n{work['stream']}, {work['training_events']:,} training events, features of width "
        f"{work['msg_dim']}, width {result['model']['width']}, one negative, `sequential`; trained in turns, a "
        f"block of 20 batches each, {settings['rounds']} epoch, one seed, {settings['threads']} threads; "
        f"{machine(result)}.\n\n"
        f"{table(['model', 'batch', 'from PyG, events/s', 'pyg_mspipe, events/s', 'ratio'], rows)}"
    )


def jodie_time(result: Result) -> str:
    """AP of JODIE by what it measures idle time by."""
    rows = [
        [
            stream_title(row["stream"]),
            f"{row['first_time']:,}",
            f"`{row['reference']}`",
            _figure(row),
        ]
        for row in result["rows"]
    ]
    settings = result["settings"]
    return (
        f"{command(result)}\n\nBest validation AP of {settings['epochs']} epochs, batch {settings['batch_size']}, mean "
        f"and standard deviation over {seeds(settings['seeds'])}; {machine(result)}.\n\n"
        f"{table(['stream', 'first time', '`--time-reference`', 'AP'], rows)}"
    )


def labels(result: Result) -> str:
    """What a task on labels comes to, beside what needs no network."""
    names = list(result["rows"][0]["mean"])
    titles = {"auc": "AUC", "ap": "AP", "ndcg": "NDCG@10"}
    rows = [
        [row["what"], str(len(row["by_seed"])), *(spread(row["mean"][name], row["stdev"][name]) for name in names)]
        for row in result["rows"]
    ]
    settings = result["settings"]
    few = ""
    if "positives" in result:
        few = ", ".join(f"{count} in {part}" for part, count in result["positives"].items())
        few = f" Labels that are 1: {few}."
    return (
        f"{command(result)}\n\n{stream_title(result['stream'])}, test events, {settings['epochs']} epochs, batch "
        f"{settings['batch_size']}, the epoch with the best validation, mean and standard deviation over "
        f"{seeds(settings['seeds'])}; {machine(result)}.{few}\n\n"
        f"{table(['', 'runs', *(titles[name] for name in names)], rows)}"
    )


def _figure(row: Row) -> str:
    equal = " (equal)" if row.get("equal_to_sequential") and row["staleness"] != "sequential" else ""
    return spread(row["mean_ap"], row["stdev_ap"]) + equal
