"""The blocks of README and docs that results are shown in, each a function of its results."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median
from typing import Any

from benchmarks.harness.benchmark import Result
from benchmarks.report import beyond, gpu, large, models, ranking
from benchmarks.report.markdown import command, machine, percent, seeds, spread, stream_title, table
from pyg_mspipe import ParallelPlan
from pyg_mspipe.pipeline.record import STAGES

Row = dict[str, Any]


def training(result: Result) -> str:
    """Events/s against PyG's loop."""
    work, settings = result["workload"], result["settings"]
    names = {
        "PyG loop": "PyG's example loop",
        "TGM loop": f"TGM {result['peers'].get('tgm-lib')}",
        "drop-in": "PyG's loop, our memory and sampler",
        "TGN fp32": "built-in TGN",
        "TGN bf16": "built-in TGN, `--precision bf16`",
    }
    sizes = [run["batch_size"] for run in result["runs"]]
    headings = ["training, events/s", *(each for size in sizes for each in (f"batch {size}", "ratio"))]
    by_size = [{each["name"]: each for each in run["variants"]} for run in result["runs"]]
    rows = [
        [
            label,
            *(
                text
                for run in by_size
                for text in (f"{run[name]['median']:,.0f}", f"{run[name]['ratio_to_baseline']:.2f}")
            ),
        ]
        for name, label in names.items()
        if all(name in run for run in by_size)
    ]
    return _block(
        result,
        f"{work['stream']}, {work['training_events']:,} training events, features of width {work['msg_dim']}, width "
        f"{result['model']['width']}, {result['model']['neighbors']} neighbours, one negative; medians over "
        f"{settings['rounds']} epochs, trained in turns, one seed, {settings['threads']} threads; {machine(result)}.",
        table(headings, rows),
    )


def accuracy(result: Result) -> str:
    """AP after a few epochs against PyG's loop."""
    rows = [
        [
            row["stream"],
            f"`{row['variant']}`" if row["variant"].startswith("mspipe") else "PyG's example loop, learning rate 1e-4",
            str(len(row["ap_by_seed"])),
            spread(row["mean_ap"], row["stdev_ap"]),
        ]
        for row in sorted(result["rows"], key=lambda row: row["stream"])
    ]
    return _block(
        result,
        f"Validation AP after {result['settings']['epochs']} epochs, batch {result['batch_size']}, negatives from the "
        f"destinations' range, mean and standard deviation over seeds; {machine(result)}.",
        table(["stream", "variant", "seeds", "AP"], rows),
    )


def modes(ram: Result, disk: Result) -> str:
    """Events/s of the modes, in short."""
    wanted = ("sequential", "exact", "minimal")
    in_ram, on_disk = (
        {(row["mode"], row["threads"]): row for row in each["rows"] if row["mitigation"] == "none"}
        for each in (ram, disk)
    )
    rows = []
    for mode in wanted:
        slow, fast = on_disk[mode, 1], in_ram[mode, 2]
        rows.append(
            [
                f"`{mode}`",
                f"{slow['events_per_second']:,.0f}",
                f"{slow['ratio_to_sequential']:.2f}",
                f"{slow['ratio_to_best_sequential']:.2f}",
                f"{fast['events_per_second']:,.0f}",
                f"{fast['ratio_to_sequential']:.2f}",
            ]
        )
    headings = ["mode", "out of core, 1 thread, events/s", "ratio", "to best", "in RAM, 2 threads, events/s", "ratio"]
    lines = "\n".join(command(each) for each in (disk, ram))
    in_line = not any(in_ram[mode, 2]["beside_training"] for mode in wanted)
    note = "; all ran in line there, so their ratios differ by noise alone" if in_line else ""
    caption = (
        f"*Out of core*: {_workload(disk)}; {machine(disk)}. *In RAM*: {_workload(ram)}{note}; {machine(ram)}. The "
        f"ratio is to sequential training with the same threads, *to best* to sequential training with whichever of 1 "
        f"and 2 threads is faster; one seed."
    )
    return f"{lines}\n\n{caption}\n\n{table(headings, rows)}"


def engine(result: Result) -> str:
    """How close the engine comes to what its stages allow."""
    shown = ("sequential", "0", "exact", "minimal")
    by_setting: dict[str, dict[str, Row]] = {}
    for row in result["rows"]:
        by_setting.setdefault(row["setting"], {})[row["mode"]] = row
    rows = []
    for setting, by_mode in by_setting.items():
        durations = by_mode["exact"]["durations_ms"]
        counts = {int(key): count for key, count in by_mode["minimal"]["staleness"].items()}
        used = sum(key * count for key, count in counts.items()) / sum(counts.values())
        rows.append(
            [
                setting,
                ", ".join(f"{durations[stage]:g}" for stage in (*STAGES, "rows")),
                str(by_mode["exact"]["k_star"]),
                *(f"{by_mode[mode]['share_of_bound']:.2f}" for mode in shown),
                f"{used:.2f}",
            ]
        )
    return _block(
        result,
        f"Batches per second as a share of $1 / \\Lambda$, the most that the stages allow, over "
        f"{result['settings']['batches']} batches less the first quarter. Each stage only waits, so many milliseconds: "
        f"{', '.join(STAGES)}, and of training until the new rows exist; {machine(result)}.",
        table(
            ["setting", "stages, ms", "$k^*$", *(f"`{mode}`" for mode in shown), "commits `minimal` missed, mean"], rows
        ),
    )


def exactness(result: Result) -> str:
    """How many runs were equal bit for bit."""
    runs = sum(row["runs"] for row in result["rows"])
    equal = sum(min(row["equal_losses"], row["equal_memory"]) for row in result["rows"])
    cases = "; ".join(f"{row['case']} ({row['batches']} batches)" for row in result["rows"])
    return _block(
        result,
        f"`exact` gave the losses and the final memory of `sequential` bit for bit in {equal} of {runs} runs with "
        f"random delays in all stages: {cases}; {machine(result)}.",
    )


def equality(result: Result) -> str:
    """How far losses are from PyG's."""
    rows = [
        [
            row["comparison"],
            "none" if row["first_batch_above_1e-4"] is None else str(row["first_batch_above_1e-4"]),
            f"{row['largest']:.1e}",
        ]
        for row in result["rows"]
    ]
    return _block(
        result,
        f"Losses of the first {result['settings']['batches']} batches of {result['stream']} against PyG's, same "
        f"weights and negatives, no dropout; {machine(result)}.",
        table(["comparison", "first batch that is more than 1e-4 apart", "largest difference"], rows),
    )


def sampling(result: Result) -> str:
    """What the history costs."""
    ms = result["sample_ms_median"]["recent, cut-off batch"]
    builds = sorted(result["build_s"])
    return _block(
        result,
        f"The history of {result['events']:,} events ({result['stream']}) is built in {builds[len(builds) // 2]:.1f} s "
        f"and takes {result['bytes_per_event']:.0f} bytes an event; a batch of {result['batch_size']} with "
        f"{result['neighbors']} neighbours is sampled in {ms:.2f} ms; {machine(result)}.",
    )


def sampling_queries(result: Result) -> str:
    """What a query takes against one of PyG's loader."""
    settings = result["settings"]
    by_kind: dict[tuple[str, int, int], dict[int, float]] = {}
    for row in result["rows"]:
        by_kind.setdefault((row["stream"], row["neighbors"], row["threads"]), {})[row["nodes"]] = row["ratio"]
    rows = [
        [stream_title(stream), *map(str, counts), *(f"{each[n]:.2f}" if n in each else "" for n in settings["nodes"])]
        for (stream, *counts), each in sorted(by_kind.items())
    ]
    return _block(
        result,
        f"The time of a query of `NeighborSampler` as a part of that of PyG's `LastNeighborLoader`, which was filled "
        f"beforehand, by the number of nodes that are asked for; medians over {settings['queries']} queries, each "
        f"answered by both in turn, one seed; {machine(result)}.",
        table(["stream", "neighbours", "threads", *(f"{n:,} node{'s' * (n > 1)}" for n in settings["nodes"])], rows),
    )


def synthetic(result: Result) -> str:
    """What can be learned from the synthetic stream."""
    means = result["means"]
    return _block(
        result,
        f"On the synthetic stream popularity has an AP of {means['popularity_ap']:.2f}, a TGN {means['tgn_ap']:.2f} "
        f"(best of {result['settings']['epochs']} epochs, mean of {seeds(len(result['rows']))}; {machine(result)}).",
    )


def staleness_accuracy(result: Result) -> str:
    """AP of every mode and mitigation."""
    streams = list(dict.fromkeys(row["stream"] for row in result["rows"]))
    by_setting: dict[tuple[str, str], dict[str, Row]] = {}
    for row in result["rows"]:
        by_setting.setdefault((row["staleness"], row["mitigation"]), {})[row["stream"]] = row
    rows = [
        [f"`{staleness}`", "" if mitigation == "none" else mitigation, *(_against(each[name]) for name in streams)]
        for (staleness, mitigation), each in by_setting.items()
    ]
    settings = result["settings"]
    return _block(
        result,
        f"Validation AP after {settings['epochs']} epochs, batch {result['batch_size']}, learning rate {result['lr']}, "
        f"mean and standard deviation over {seeds(settings['seeds'])}; in brackets the mean difference to sequential "
        f"training with the same seed, in points; one thread; {machine(result)}. Fixed bounds miss as many commits as "
        f"they may, in every batch; `exact` and `minimal` ran beside training.",
        table(["`--staleness`", "`--mitigation`", *(stream_title(name) for name in streams)], rows),
    )


def all_modes(result: Result) -> str:
    """Events/s of every mode and mitigation on one workload."""
    headings = ["threads", "mode", "mitigation", "beside training", "events/s", "ratio", "to best", "of allowed"]
    rows = []
    for row in result["rows"]:
        counts = row["batches_by_staleness"]
        total = sum(counts.values())
        hidden = percent(row["share_of_possible_overlap"]) if row["beside_training"] else ""
        rows.append(
            [
                str(row["threads"]),
                row["mode"],
                "" if row["mitigation"] == "none" else row["mitigation"],
                "yes" if row["beside_training"] else "no",
                f"{row['events_per_second']:,.0f}",
                f"{row['ratio_to_sequential']:.2f}",
                f"{row['ratio_to_best_sequential']:.2f}",
                f"{row['share_of_what_stages_allow']:.2f}",
                hidden,
                ", ".join(f"{key}: {percent(count / total)}" for key, count in counts.items()),
            ]
        )
    return _block(
        result,
        f"{_workload(result)}; medians over {result['settings']['rounds']} turns, one seed; {machine(result)}.",
        table([*headings, "hidden", "commits missed"], rows),
    )


def parallel_equality(result: Result) -> str:
    """Whether processes had the losses of their emulation."""
    largest = max(row["largest_difference"] for row in result["rows"])
    apart = "the losses of its emulation exactly" if largest == 0 else f"its emulation's losses to {largest:.0e}"
    plans = ", ".join(f"`{row['plan']}`" for row in result["rows"])
    return _block(result, f"A sweep of {stream_title(result['stream'])} gave {apart} by {plans}; {machine(result)}.")


def parallel_rate(result: Result) -> str:
    """Events/s of many trainers."""
    rows = []
    notes = {
        "overlap": ", with its stages on another core",
        "twice": ", two that know nothing of each other",
        "twice, the slower": ", twice the slower of those two",
        "": "",
    }
    for row in result["rows"]:
        plan, _, note = row["plan"].partition(", ")
        processes = 2 if note.startswith("twice") else ParallelPlan.parse(plan).world
        rows.append(
            [f"`{plan}`{notes[note]}", str(processes), f"{row['median']:,.0f}", f"{row['ratio_within_rounds']:.2f}"]
        )
    waiting, rounds, steps = result["waiting"], result["settings"]["rounds"], result["batches_a_turn"]
    layers = f"{result['layers']} layers, " if result.get("layers", 1) > 1 else ""
    return _block(
        result,
        f"{stream_title(result['stream'])} without features, {layers}batch {result['batch_size']} for each trainer, "
        f"one thread for each process (`--overlap never`); medians over {rounds} rounds, in each of which a plan "
        f"trains {steps} steps in turn, of events per second and of the ratio to one process in the same round; one "
        f"seed; {machine(result)}.",
        table(["plan", "processes", "events/s", "ratio"], rows),
        f"A trainer that waits takes {percent(waiting['collective'], 1)} of a core, for its turn at a memory "
        f"{percent(waiting['turn'], 1)}.",
    )


def parallel_accuracy(result: Result) -> str:
    """AP of many trainers."""
    single = {row["stream"]: row for row in result["rows"] if row["plan"] == "1x1x1"}
    notes = {"static": "`--static-dim 100`", "lr unscaled": "`--lr-scaling none`"}
    rows = []
    for row in result["rows"]:
        base = single[row["stream"]]
        plan, *more = row["plan"].split(", ")
        points = 100 * (row["best_ap"] - base["best_ap"])
        rows.append(
            [
                stream_title(row["stream"]),
                ", ".join([f"`{plan}`", *(notes[each] for each in more)]),
                f"{row['steps']:,}",
                percent(row["steps"] / base["steps"]),
                f"{fmean(curve[-1]['seconds'] for curve in row['curves']):,.0f} s",
                f"{spread(row['best_ap'], row['stdev_ap'])} ({points:+.2f})",
            ]
        )
    settings = result["settings"]
    return _block(
        result,
        f"Best validation AP when each event has been trained {settings['epochs']} times or, where a sweep does more, "
        f"the next multiple of that; mean and standard deviation over {seeds(settings['seeds'])}, batch "
        f"{result['batch_size']} for each trainer, learning rate {result['lr']} unless `--lr-scaling` says otherwise; "
        f"in brackets the difference to one trainer in points; seconds of training alone, one thread for each process; "
        f"{machine(result)}.",
        table(["stream", "plan", "steps", "of one trainer's", "training", "AP"], rows),
    )


def two_hosts(result: Result) -> str:
    """What crosses the network."""
    rows = [
        [
            f"{each['nodes']:,}",
            f"{each['node_memory_bytes']:,}",
            f"{each['gradient_bytes']:,}",
            f"{each['expected_bytes_per_step']:,}",
            ", ".join(f"{sent:,}" for sent in each["sent_bytes_per_step"]),
            _apart(each["largest_difference_of_a_loss_to_the_emulator"]),
        ]
        for each in result["streams"]
    ]
    headings = ["nodes", "node memory, bytes", "gradients, bytes", "expected in a step", "sent by each host in a step"]
    work = result["workload"]
    return _block(
        result,
        f"{work['hosts'][0].upper()}{work['hosts'][1:]}, plan `{work['plan']}`, {stream_title(work['stream'])}: bytes "
        f"sent in a step against what adding up the gradients takes (2 (W - 1) / W of their size); one seed; "
        f"{machine(result)}.",
        table([*headings, "losses against the emulator"], rows),
    )


def batch_size(result: Result) -> str:
    """AP as batches grow."""
    by_size: dict[int, dict[bool, Row]] = {}
    for row in result["rows"]:
        by_size.setdefault(row["batch_size"], {})[row["static"]] = row
    rows = [
        [f"{size:,}", *(spread(each[static]["mean_ap"], each[static]["stdev_ap"]) for static in (False, True))]
        for size, each in by_size.items()
    ]
    settings = result["settings"]
    return _block(
        result,
        f"{stream_title(result['stream'])} without features, one trainer, best validation AP of {settings['epochs']} "
        f"epochs, mean and standard deviation over {seeds(settings['seeds'])}, learning rate {result['lr']}; "
        f"{machine(result)}.",
        table(["batch size", "dynamic memory alone", "with static memory, `--static-dim 100`"], rows),
    )


def growth(result: Result) -> str:
    """What an event and a node cost as streams grow."""
    headings = [
        "events",
        "nodes",
        "batch size",
        "rows read in a batch",
        "training, µs per event",
        "building the history, µs per event",
    ]
    rows = [
        [
            f"{row['events']:,}",
            f"{row['nodes']:,}",
            f"{row['batch_size']:,}",
            f"{row['rows_read_per_batch']:,.0f}",
            f"{row['us_per_event']:.1f}",
            f"{row['build_us_per_event']:.2f}",
            f"{row['history_bytes_per_event']:.1f}",
            f"{row['memory_bytes_per_node']:.0f}",
        ]
        for kind in ("events", "nodes", "batch_size")
        for row in result[f"by_{kind}"]
    ]
    settings = result["settings"]
    costs = [row["us_per_event"] for row in result["by_events"]]
    return _block(
        result,
        f"{result['stream']}, 10 neighbours, the last batches of each stream trained "
        f"in turns; medians over {settings['rounds']} turns of {settings['turn']} batches, one seed, "
        f"{settings['threads']} threads; {machine(result)}.",
        table([*headings, "history, bytes per event", "memory, bytes per node"], rows),
        f"From {settings['events'][0]:,} to {settings['events'][-1]:,} events the dearest event costs "
        f"{percent(max(costs) / min(costs) - 1)} more than the cheapest.",
    )


def busy_machine(result: Result) -> str:
    """How fast training is alone and beside busy loops."""
    settings = result["settings"]
    rates: dict[tuple[int, str], dict[int, float]] = {}
    for row in result["rows"]:
        rates.setdefault((row["batch_size"], row["kind"]), {})[row["loops"]] = median(row["events_per_s"])
    rows = [
        [f"{size:,}", kind, f"{each[0]:,.0f}", f"{each[settings['loops']]:,.0f}"]
        for (size, kind), each in rates.items()
    ]
    return _block(
        result,
        f"{result['stream']}, an epoch of {settings['steps']} steps by `mspipe train`, each in its own process, "
        f"all in turns; medians of {settings['rounds']}, one seed; {machine(result)}.",
        table(["batch size", "threads", "alone, events/s", f"beside {settings['loops']} busy loops, events/s"], rows),
    )


BLOCKS: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "training": (training, ("tgn_training",)),
    "accuracy": (accuracy, ("tgn_accuracy",)),
    "modes": (modes, ("pipeline_modes_ram", "pipeline_modes_disk")),
    "engine": (engine, ("pipeline_rate",)),
    "exactness": (exactness, ("pipeline_exactness",)),
    "equality": (equality, ("tgn_equality",)),
    "sampling": (sampling, ("sampling",)),
    "sampling_queries": (sampling_queries, ("sampling_queries",)),
    "growth": (growth, ("growth",)),
    "busy_machine": (busy_machine, ("busy_machine",)),
    "synthetic": (synthetic, ("synthetic_stream",)),
    "staleness_accuracy": (staleness_accuracy, ("pipeline_accuracy",)),
    "modes_ram": (all_modes, ("pipeline_modes_ram",)),
    "modes_disk": (all_modes, ("pipeline_modes_disk",)),
    "parallel_equality": (parallel_equality, ("parallel_equality",)),
    "parallel_rate": (parallel_rate, ("parallel_rate",)),
    "parallel_rate_two_layers": (parallel_rate, ("parallel_rate_two_layers",)),
    "parallel_accuracy": (parallel_accuracy, ("parallel_accuracy",)),
    "two_hosts": (two_hosts, ("two_hosts",)),
    "batch_size": (batch_size, ("batch_size",)),
    "model_accuracy": (models.model_accuracy, ("model_accuracy",)),
    "model_training": (models.model_training, ("model_training",)),
    "jodie_time": (models.jodie_time, ("jodie_time",)),
    "node_labels": (models.labels, ("node_labels",)),
    "edge_labels": (models.labels, ("edge_labels",)),
    "node_properties": (models.labels, ("node_properties",)),
    "refine": (ranking.refine, ("refine",)),
    "tgb_evaluation": (ranking.tgb_evaluation, ("tgb_evaluation",)),
    "link_ranking": (ranking.link_ranking, ("link_ranking",)),
    "gpu_counts": (gpu.gpu_counts, ("gpu_counts",)),
    "large_stream": (large.large_stream, ("large_stream",)),
    "beyond_symbols": (beyond.symbols, ("growth", "tgn_training", "pipeline_modes_disk")),
    "beyond_memory": (beyond.memory, ("growth",)),
    "beyond_traffic": (beyond.traffic, ()),
    "beyond_hours": (beyond.hours, ("tgn_training", "pipeline_modes_disk")),
}
"""What writes each block, and from which benchmarks."""


def _block(result: Result, *parts: str) -> str:
    return "\n\n".join([command(result), *parts])


def _workload(result: Result) -> str:
    hops = " x ".join(map(str, result["num_neighbors"]))
    disk = ", every gather read from the disk" if result["workload"] == "disk" else ""
    return (
        f"{result['stream']} ({result['events']:,} events), batch {result['batch_size']}, {hops} {result['strategy']} "
        f"neighbours{disk}"
    )


def _against(row: Row) -> str:
    return f"{spread(row['mean_ap'], row['stdev_ap'])} ({100 * row['mean_difference_to_sequential']:+.2f})"


def _apart(difference: float) -> str:
    return "equal" if difference == 0 else f"{difference:.1g} apart"
