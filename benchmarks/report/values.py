"""Single figures within the text of a page, each a function of results and of what is in its brackets."""

from __future__ import annotations

from collections.abc import Callable
from statistics import quantiles
from typing import Any

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import percent

Row = dict[str, Any]


def staleness_points(result: Result, stream: str, staleness: str, mitigation: str = "none") -> str:
    """AP against sequential training with the same seed, in points."""
    return _points(_accuracy(result, stream, staleness, mitigation)["mean_difference_to_sequential"])


def staleness_deviation(result: Result, stream: str, staleness: str, mitigation: str = "none") -> str:
    """The standard deviation of that between seeds."""
    return f"{100 * _accuracy(result, stream, staleness, mitigation)['stdev_difference']:.2f}"


def repaired_points(result: Result, stream: str, staleness: str, mitigation: str) -> str:
    """AP against the same staleness without a mitigation, in points."""
    stale, repaired = (
        _accuracy(result, stream, staleness, each)["mean_difference_to_sequential"] for each in ("none", mitigation)
    )
    return _points(repaired - stale)


def batches_missing(result: Result, stream: str, staleness: str) -> str:
    """The share of the batches that missed a commit."""
    counts = _accuracy(result, stream, staleness, "none")["batches_by_staleness"]
    return percent(1 - counts.get("0", 0) / sum(counts.values()), 1)


def exact_epochs(result: Result) -> str:
    """After how many of all epochs the AP of ``exact`` was that of sequential training."""
    pairs = [
        pair
        for row in result["rows"]
        if row["staleness"] == "exact"
        for own, other in zip(
            row["ap_by_seed_and_epoch"],
            _accuracy(result, row["stream"], "sequential", "none")["ap_by_seed_and_epoch"],
            strict=True,
        )
        for pair in zip(own, other, strict=True)
    ]
    return f"{sum(own == other for own, other in pairs)} of {len(pairs)}"


def exact_runs(result: Result) -> str:
    """How many of the runs of ``exact`` were equal to sequential training."""
    runs = sum(row["runs"] for row in result["rows"])
    equal = sum(min(row["equal_losses"], row["equal_memory"]) for row in result["rows"])
    return f"{equal} of {runs}"


def plan_points(result: Result, stream: str, plan: str, *more: str) -> str:
    """AP of a plan against one trainer, in points."""
    base, own = _plan(result, stream, "1x1x1"), _plan(result, stream, ", ".join([plan, *more]))
    return _points(own["best_ap"] - base["best_ap"])


def plan_steps(result: Result, stream: str, plan: str) -> str:
    """The steps of a plan as a share of one trainer's."""
    return percent(_plan(result, stream, plan)["steps"] / _plan(result, stream, "1x1x1")["steps"])


def plan_ratio(result: Result, plan: str, *more: str) -> str:
    """Events/s of a plan over those of one process."""
    return f"{_one(result['rows'], plan=', '.join([plan, *more]))['ratio_within_rounds']:.2f}"


def plan_ratio_range(result: Result, plan: str, *more: str) -> str:
    """Between which of these the middle half of the rounds lies."""
    plans = ", ".join([plan, *more]), "1x1x1"
    own, single = (_one(result["rows"], plan=each)["events_per_second"] for each in plans)
    low, _, high = quantiles(one / other for one, other in zip(own, single, strict=True))
    return f"{low:.2f} to {high:.2f}"


def missed_neighbors(result: Result, stream: str) -> str:
    """How many of all last neighbours PyG's loader misses."""
    counts = _one(result["rows"], stream=stream)["neighbors"]
    if counts["ours"]:
        raise ValueError(f"NeighborSampler misses {counts['ours']} last neighbours of {stream}; pages say none")
    return f"{counts['pyg']:,} of {counts['true']:,}"


def ties_taken(result: Result, stream: str, event: str) -> str:
    """In how many of all ties PyG takes the message of the first event, of the last, or of another."""
    ties = _one(result["rows"], stream=stream)["ties"]
    return f"{ties[event]:,} of {ties['nodes']:,}"


VALUES: dict[str, tuple[Callable[..., str], str]] = {
    "staleness_points": (staleness_points, "pipeline_accuracy"),
    "staleness_deviation": (staleness_deviation, "pipeline_accuracy"),
    "repaired_points": (repaired_points, "pipeline_accuracy"),
    "batches_missing": (batches_missing, "pipeline_accuracy"),
    "exact_epochs": (exact_epochs, "pipeline_accuracy"),
    "exact_runs": (exact_runs, "pipeline_exactness"),
    "plan_points": (plan_points, "parallel_accuracy"),
    "plan_steps": (plan_steps, "parallel_accuracy"),
    "plan_ratio": (plan_ratio, "parallel_rate"),
    "plan_ratio_range": (plan_ratio_range, "parallel_rate"),
    "plan_ratio_two_layers": (plan_ratio, "parallel_rate_two_layers"),
    "missed_neighbors": (missed_neighbors, "unstable_sort"),
    "ties_taken": (ties_taken, "unstable_sort"),
}
"""What writes each figure, and from which benchmark."""


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _accuracy(result: Result, stream: str, staleness: str, mitigation: str) -> Row:
    return _one(result["rows"], stream=stream, staleness=staleness, mitigation=mitigation)


def _plan(result: Result, stream: str, plan: str) -> Row:
    return _one(result["rows"], stream=stream, plan=plan)


def _one(rows: list[Row], **wanted: str) -> Row:
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    if len(found) != 1:
        raise ValueError(f"results have {len(found)} rows with {wanted}; one is wanted")
    return found[0]
