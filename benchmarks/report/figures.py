"""Figures of results, each as SVG and PNG: black on white, so that they print and are read on a dark page too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.benchmark import ROOT, Result
from benchmarks.harness.stages import STAGES
from benchmarks.report.markdown import stream_title
from pyg_mspipe.pipeline import BatchRecord
from pyg_mspipe.timeline import draw_timeline

FOLDER = ROOT / "docs" / "_static" / "figures"
# Told apart with any colour vision.
_COLORS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB", "#222222")
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=_COLORS),
    "svg.hashsalt": "pyg_mspipe",
    "svg.fonttype": "none",
    "figure.facecolor": "white",
}


def timelines(result: Result) -> Figure:
    """What the stages do, one lane each, sequential above exact, on one scale of time."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    modes = ("sequential", "exact")
    rows: list[Axes] = [figure.add_subplot(2, 1, 1 + place) for place in range(len(modes))]
    length = 0.0
    for axes, mode in zip(rows, modes, strict=True):
        known = {field.name for field in fields(BatchRecord)}  # results may have been recorded with others
        rows_of = result["modes"][mode]
        records = [BatchRecord(**{name: each[name] for name in known & each.keys()}) for each in rows_of]
        half = len(records) // 2
        start = records[half].begin["fetch"]
        # As many batches as sequential training needs the time of six for.
        length = length or records[half + 5].finish["update"] - start
        last = max(record.index for record in records[half:] if record.finish["train"] - start <= length)
        draw_timeline(records, axes, first=records[half].index, last=last)
        axes.set_title(mode, loc="left", fontweight="bold")
    longest = max(axes.get_xlim()[1] for axes in rows)
    for axes in rows:
        axes.set_xlim(0, longest)
    return figure


def training_rates(result: Result) -> Figure:
    """Events/s against PyG's loop."""
    figure, axes = _axes()
    names = [each["name"] for each in result["runs"][0]["variants"]]
    width = 0.8 / len(result["runs"])
    for place, run in enumerate(result["runs"]):
        at = [index + place * width for index in range(len(names))]
        bars = axes.bar(at, [each["median"] for each in run["variants"]], width, label=f"batch {run['batch_size']}")
        axes.bar_label(bars, [f"{each['ratio_to_baseline']:.2f}" for each in run["variants"]], fontsize=8)
    axes.set_xticks([index + width * (len(result["runs"]) - 1) / 2 for index in range(len(names))], names)
    axes.set_ylabel("events/s; ratio to PyG's loop")
    axes.legend(frameon=False)
    return figure


def stage_breakdown(result: Result) -> Figure:
    """Where the time of a step goes."""
    run = result["runs"][0]
    figure, axes = _axes()
    left = [0.0] * len(run["variants"])
    names = [each["name"] for each in run["variants"]]
    for stage in STAGES:
        ms = [each["profile"]["stage_ms"][stage] for each in run["variants"]]
        axes.barh(names, ms, left=left, label=stage)
        left = [one + other for one, other in zip(left, ms, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(f"ms per batch of {run['batch_size']}")
    axes.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def mode_rates(ram: Result, disk: Result) -> Figure:
    """Events/s of each mode over sequential training."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for place, result in enumerate((disk, ram)):
        axes = figure.add_subplot(1, 2, 1 + place)
        rows = [row for row in result["rows"] if row["mitigation"] == "none"]
        modes = list(dict.fromkeys(row["mode"] for row in rows))
        for number, threads in enumerate(sorted({row["threads"] for row in rows})):
            by_mode = {row["mode"]: row["ratio_to_sequential"] for row in rows if row["threads"] == threads}
            at = [index + 0.4 * number for index in range(len(modes))]
            axes.bar(
                at, [by_mode[mode] for mode in modes], 0.4, label=f"{threads} training thread{'s' * (threads > 1)}"
            )
        axes.axhline(1, color="#222222", linewidth=0.8)
        axes.set_xticks([index + 0.2 for index in range(len(modes))], modes, rotation=30, ha="right")
        axes.set_title("out of core" if result["workload"] == "disk" else "in RAM", loc="left")
        axes.set_ylabel("events/s over sequential")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=2, loc="outside lower center")
    return figure


def staleness(disk: Result) -> Figure:
    """How many commits batches missed."""
    figure, axes = _axes()
    rows = [row for row in disk["rows"] if row["mitigation"] == "none" and row["threads"] == 1]
    most = max(int(key) for row in rows for key in row["batches_by_staleness"])
    left = [0.0] * len(rows)
    for missed in range(most + 1):
        shares = [
            row["batches_by_staleness"].get(str(missed), 0) / sum(row["batches_by_staleness"].values()) for row in rows
        ]
        axes.barh([row["mode"] for row in rows], shares, left=left, label=f"{missed}", color=_COLORS[missed])
        left = [one + other for one, other in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("share of the batches, by the commits that their memory misses")
    axes.legend(frameon=False, title="missed", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def ap_of_plans(result: Result) -> Figure:
    """AP of many trainers against steps and against time."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    stream = result["rows"][0]["stream"]
    panels = {"step": "optimizer steps", "seconds": "seconds of training"}
    for place, (key, label) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), 1 + place)
        for row in result["rows"]:
            if row["stream"] == stream:
                points = list(zip(*row["curves"], strict=True))
                x = [fmean(point[key] for point in each) for each in points]
                y = [fmean(point["ap"] for point in each) for each in points]
                axes.plot(x, y, marker="o", markersize=3, label=row["plan"])
        axes.set_xlim(0, None)
        axes.set_xlabel(label)
        axes.set_ylabel(f"validation AP, {stream_title(stream)}")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, ncols=4, loc="outside lower center")
    return figure


def ap_of_training(result: Result) -> Figure:
    """AP against time, for PyG's loop and ours."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for place, run in enumerate(result["runs"]):
        axes = figure.add_subplot(1, len(result["runs"]), 1 + place)
        for each in run["variants"]:
            seconds = accumulate(result["workload"]["training_events"] / rate for rate in each["events_per_second"])
            axes.plot(
                list(seconds), [scores["ap"] for scores in each["scores"]], marker="o", markersize=3, label=each["name"]
            )
        axes.set_xlim(0, None)
        axes.set_title(f"batch {run['batch_size']}", loc="left")
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("validation AP")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, ncols=5, loc="outside lower center")
    return figure


def batch_sizes(result: Result) -> Figure:
    """AP as batches grow."""
    figure, axes = _axes()
    for static, label in ((False, "dynamic memory alone"), (True, "with static memory")):
        rows = [row for row in result["rows"] if row["static"] == static]
        sizes = [row["batch_size"] for row in rows]
        deviation = [row["stdev_ap"] for row in rows]
        axes.errorbar(sizes, [row["mean_ap"] for row in rows], deviation, marker="o", capsize=3, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("batch size")
    axes.set_ylabel("best validation AP")
    axes.legend(frameon=False)
    return figure


def processes(*results: Result) -> Figure:
    """Events/s of plans over those of one process."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    shared = None
    for place, result in enumerate(results):
        axes = shared = figure.add_subplot(1, len(results), 1 + place, sharey=shared)
        rows = [row for row in result["rows"] if row["plan"] == "1x1x1, twice" or "," not in row["plan"]]
        names = [row["plan"].replace(", twice", ",\ntwice") for row in rows]
        bars = axes.bar(names, [row["ratio_within_rounds"] for row in rows])
        axes.bar_label(bars, [f"{row['ratio_within_rounds']:.2f}" for row in rows], fontsize=8)
        layers = result.get("layers", 1)
        axes.set_title(f"{layers} layer{'s' * (layers > 1)}, batch {result['batch_size']}", loc="left")
        axes.set_xlabel("plan i x j x k")
    figure.axes[0].set_ylabel("events/s over one process")
    return figure


def growth(result: Result) -> Figure:
    """What an event costs as streams grow, in events and in nodes, and as batches do."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    kinds = (("events", "events of history"), ("nodes", "nodes"), ("batch_size", "batch size"))
    shared = None
    for place, (key, label) in enumerate(kinds):
        axes = shared = figure.add_subplot(1, len(kinds), 1 + place, sharey=shared)
        rows = result[f"by_{key}"]
        axes.plot([row[key] for row in rows], [row["us_per_event"] for row in rows], marker="o")
        axes.set_xscale("log")
        axes.set_xlabel(label)
    figure.axes[0].set_ylim(0, None)
    figure.axes[0].set_ylabel("µs of training per event")
    return figure


FIGURES: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "timelines": (timelines, ("timelines",)),
    "training_rates": (training_rates, ("tgn_training",)),
    "ap_of_training": (ap_of_training, ("tgn_training",)),
    "stage_breakdown": (stage_breakdown, ("tgn_training",)),
    "mode_rates": (mode_rates, ("pipeline_modes_ram", "pipeline_modes_disk")),
    "staleness": (staleness, ("pipeline_modes_disk",)),
    "ap_of_plans": (ap_of_plans, ("parallel_accuracy",)),
    "batch_sizes": (batch_sizes, ("batch_size",)),
    "processes": (processes, ("parallel_rate", "parallel_rate_two_layers")),
    "growth": (growth, ("growth",)),
}
"""What draws each figure, and from which benchmarks."""


def draw_all(results: dict[str, Result], folder: Path = FOLDER) -> list[Path]:
    """Draws the figures that there are results for, and returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (make, needs) in FIGURES.items():
        if all(each in results for each in needs):
            with mpl.rc_context(_STYLE):
                figure = make(*(results[each] for each in needs))
                for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                    path = folder / f"{name}.{suffix}"
                    figure.savefig(path, dpi=150, metadata=metadata)
                    written.append(path)
    return written


def _axes(size: Sequence[float] = (7, 3.4)) -> tuple[Figure, Any]:
    figure = Figure(figsize=tuple(size), layout="constrained")  # type: ignore[arg-type]
    return figure, figure.add_subplot()
