"""A summary of a stream: counts, times, ties and degrees, with warnings about possible mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.data.stream_folder import StreamFolder, folder_of

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_MANY_LABELS = 20
_MANY_UNUSED_ROWS = 100
_SPARSE = 8  # ids per entry, above which a sort costs less than a row for each id
_EPOCH_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_YEAR_1990, _YEAR_2100 = 631_152_000, 4_102_444_800  # epoch seconds


@dataclass(frozen=True)
class DegreeSketch:
    """How many events the nodes have, over the nodes that have any.

    Attributes:
        median: Half of the nodes have at most this many events.
        p90: 90 % of the nodes have at most this many events.
        p99: 99 % of the nodes have at most this many events.
        max: The events of the busiest node.
        gini: 0 if all nodes have equally many events, towards 1 if few nodes have nearly all events.
    """

    median: int
    p90: int
    p99: int
    max: int
    gini: float


@dataclass(frozen=True)
class StreamSummary:
    """A stream in numbers.

    Attributes:
        num_events: `E`.
        num_nodes: The largest id plus one, which is how many rows node memory gets.
        num_distinct_nodes: How many ids occur.
        num_sources: How many ids occur as a source.
        num_destinations: How many ids occur as a destination.
        min_id: The smallest id.
        bipartite: No id is both a source and a destination.
        first_time: The time of the first event.
        last_time: The time of the last event.
        time_unit: A guess: `epoch seconds` (or `milliseconds`, `microseconds`, `nanoseconds`), else `relative`.
        num_distinct_times: How many times occur.
        tied_share: The share of events whose time another event has too.
        largest_tie: How many events the most frequent time has.
        num_self_loops: Events whose source is their destination.
        repeat_share: The share of events whose (source, destination) pair occurred before; none where it is not known,
            as of a stream folder.
        degrees: Events per node; a self-loop counts once.
        msg_dim: The width of `msg`.
        label_counts: The most frequent values of `y` with their counts, at most 20; empty without `y`.
        warnings: One line for each property that is allowed but may be a mistake.
    """

    num_events: int
    num_nodes: int
    num_distinct_nodes: int
    num_sources: int
    num_destinations: int
    min_id: int
    bipartite: bool
    first_time: int
    last_time: int
    time_unit: str
    num_distinct_times: int
    tied_share: float
    largest_tie: int
    num_self_loops: int
    repeat_share: float | None
    degrees: DegreeSketch
    msg_dim: int
    label_counts: dict[int | float, int]
    warnings: tuple[str, ...]


def summarize(data: TemporalData) -> StreamSummary:
    """Returns the summary of a stream; it costs a few sorts over the events.

    Args:
        data: A stream as `check_stream` returns it.
    """
    folder = folder_of(data, messages=True)
    if folder is not None:
        return _of_folder(folder)
    src, dst, t, msg = (data[name] for name in ("src", "dst", "t", "msg"))
    num_events = len(t)
    # compact ids keep the cost independent of how sparse the ids are
    ids, compact = torch.unique(torch.cat([src, dst]), return_inverse=True)
    src_c, dst_c = compact.view(2, num_events)
    is_source, is_destination = torch.zeros(2, len(ids), dtype=torch.bool, device=ids.device)
    is_source[src_c], is_destination[dst_c] = True, True
    loops = src_c == dst_c
    degree = torch.bincount(torch.cat([src_c, dst_c[~loops]]), minlength=len(ids))
    pairs = torch.unique(src_c * len(ids) + dst_c)
    times, same_time = torch.unique_consecutive(t, return_counts=True)
    return StreamSummary(
        num_events=num_events,
        num_nodes=int(ids[-1]) + 1,
        num_distinct_nodes=len(ids),
        num_sources=int(is_source.sum()),
        num_destinations=int(is_destination.sum()),
        min_id=int(ids[0]),
        bipartite=not bool((is_source & is_destination).any()),
        first_time=int(t[0]),
        last_time=int(t[-1]),
        time_unit=guess_time_unit(int(t[0]), int(t[-1])),
        num_distinct_times=len(times),
        tied_share=int(same_time[same_time > 1].sum()) / num_events,
        largest_tie=int(same_time.max()),
        num_self_loops=int(loops.sum()),
        repeat_share=1.0 - len(pairs) / num_events,
        degrees=degree_sketch(degree),
        msg_dim=msg.size(1),
        label_counts=_count_labels(data["y"]) if "y" in data else {},
        warnings=_warnings(
            num_nodes=int(ids[-1]) + 1,
            num_distinct=len(ids),
            min_id=int(ids[0]),
            sides=(int(is_source.sum()), int(is_destination.sum())),
            largest=(int(ids[is_source][-1]), int(ids[is_destination][-1])),
            num_times=len(times),
            largest_tie=int(same_time.max()),
            num_events=num_events,
        ),
    )


def _of_folder(folder: StreamFolder) -> StreamSummary:
    """Returns the summary that was made when the folder was written."""
    found = dict(folder.manifest["summary"])
    largest = found.pop("largest_source"), found.pop("largest_destination")
    found["degrees"] = DegreeSketch(**found["degrees"])
    found["label_counts"] = {label: count for label, count in found["label_counts"]}
    return StreamSummary(
        num_events=folder.num_events,
        num_nodes=folder.num_nodes,
        repeat_share=None,
        msg_dim=folder.tensors["msg"].size(1),
        warnings=_warnings(
            num_nodes=folder.num_nodes,
            num_distinct=found["num_distinct_nodes"],
            min_id=found["min_id"],
            sides=(found["num_sources"], found["num_destinations"]),
            largest=largest,
            num_times=found["num_distinct_times"],
            largest_tie=found["largest_tie"],
            num_events=folder.num_events,
        ),
        **found,
    )


def count_nodes(src: Tensor, dst: Tensor) -> int:
    """Returns how many distinct nodes the events of a checked stream have.

    Args:
        src: Int64[E].
        dst: Int64[E].
    """
    ids = torch.cat([src, dst])
    num_rows = int(ids.max()) + 1
    if num_rows > _SPARSE * len(ids):
        return len(torch.unique(ids))
    return int(torch.zeros(num_rows, dtype=torch.bool, device=ids.device).index_fill_(0, ids, True).sum())


def guess_time_unit(first_time: int, last_time: int) -> str:
    """Returns the unit that puts both times between 1990 and 2100, as `StreamSummary.time_unit`."""
    for unit, per_second in _EPOCH_UNITS:
        if _YEAR_1990 * per_second <= first_time and last_time <= _YEAR_2100 * per_second:
            return f"epoch {unit}"
    return "relative"


def degree_sketch(degree: Tensor) -> DegreeSketch:
    """Returns the sketch of the degrees of nodes.

    Args:
        degree: Int64[n], above 0.
    """
    ordered = degree.sort().values
    n = len(ordered)
    # the smallest degree that at least this percentage of the nodes does not exceed
    median, p90, p99 = (int(ordered[-(-n * percent // 100) - 1]) for percent in (50, 90, 99))
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=degree.device)
    gini = float(2.0 * (rank * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)
    return DegreeSketch(median=median, p90=p90, p99=p99, max=int(ordered[-1]), gini=gini)


def _count_labels(y: Tensor) -> dict[int | float, int]:
    values, counts = torch.unique(y, return_counts=True)
    frequent = counts.argsort(descending=True, stable=True)[:_MANY_LABELS]
    return dict(zip(values[frequent].tolist(), counts[frequent].tolist(), strict=True))


def _warnings(
    *,
    num_nodes: int,
    num_distinct: int,
    min_id: int,
    sides: tuple[int, int],
    largest: tuple[int, int],
    num_times: int,
    largest_tie: int,
    num_events: int,
) -> tuple[str, ...]:
    found = []
    if num_nodes > 2 * num_distinct and num_nodes - num_distinct >= _MANY_UNUSED_ROWS:
        found.append(
            f"ids go from {min_id} to {num_nodes - 1} but only {num_distinct} occur, and memory takes {num_nodes} "
            f"rows, one for each id up to the largest; relabel=True numbers them from 0"
        )
    if sides[0] != sides[1] and (largest[0] + 1, largest[1] + 1) == sides:
        found.append(
            f"sources fill 0..{sides[0] - 1} and destinations fill 0..{sides[1] - 1}, as if numbered independently of "
            f"each other; if the same number means two nodes, pass bipartite=True"
        )
    if num_times == 1:
        found.append("all events have the same time, so that no chronological split exists")
    elif largest_tie > max(1, num_events // 10):
        found.append(
            f"one time holds {largest_tie} of {num_events} events, which a chronological split cannot separate"
        )
    return tuple(found)
