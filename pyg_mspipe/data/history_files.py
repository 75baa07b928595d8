"""The history of every node, written to files part by part, and what is counted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyg_mspipe.data.column_file import Column, ColumnWriter
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.regrouped import MOST_PARTS, Regrouped, sorted_order
from pyg_mspipe.data.stream_folder import RANGE_BLOCK
from pyg_mspipe.data.summary import degree_sketch, guess_time_unit
from pyg_mspipe.data.tables import Array

NARROW = 1 << 32
"""Numbers of events and of nodes up to which temporary files hold them in 32 bits."""

_ENTRY_BYTES = 72
"""Memory that sorting an entry of the history takes."""

_WORKERS = 2
_LEAST_FOR_NODES = 1 << 28


class Ends:
    """What the ends and times of all events say: how many events a node has, ties, self-loops, destinations.

    Args:
        src: The column of the sources.
        dst: Of the destinations.
        t: Of the times, sorted.

    Attributes:
        entries: Int64[N + 1], the entries of each node, behind a zero.
        loops: The events that are self-loops, in parts.
        ranges: The smallest and the largest destination up to the end of each block of events.
    """

    def __init__(self, src: Column, dst: Column, t: Column) -> None:
        self.columns = src, dst, t
        self.loops: list[Array] = []
        self.ranges: list[Array] = []
        self._looping: list[Array] = []
        self.distinct_times, self.tied, self.largest_tie = 0, 0, 0

    def count(self, block: int, memory: int) -> int:
        """Counts, in two passes over the columns, and returns the number of nodes.

        Args:
            block: How many events to read at a time.
            memory: Bytes of memory to use.

        Raises:
            StreamError: If ids are so large that what is counted of each node does not fit.
        """
        num_nodes = 1 + max(int(each.max()) for column in self.columns[:2] for each in column.blocks(block))
        if num_nodes * 10 > max(memory, _LEAST_FOR_NODES):
            raise StreamError(
                Problem(f"ids go up to {num_nodes - 1}, and each takes a row; pass relabel=True", relabel=True)
            )
        self.entries = np.zeros(num_nodes + 1, dtype=np.int64)
        self.is_source, self.is_destination = np.zeros((2, num_nodes), dtype=np.bool_)
        self.loops, self.ranges, self._looping = [], [], []
        block = -(-block // RANGE_BLOCK) * RANGE_BLOCK
        low, high, begin, run, last = 2**63 - 1, -1, 0, 0, None
        entries = self.entries[1:]
        for src, dst, t in zip(*(column.blocks(block) for column in self.columns), strict=True):
            np.add.at(entries, src, 1)
            np.add.at(entries, dst, 1)
            self.is_source[src], self.is_destination[dst] = True, True
            loops = np.flatnonzero(src == dst)
            self.loops.append(begin + loops)
            self._looping.append(src[loops])
            for at in range(0, len(dst), RANGE_BLOCK):
                part = dst[at : at + RANGE_BLOCK]
                low, high = min(low, int(part.min())), max(high, int(part.max()))
                self.ranges.append(np.array([low, high]))
            begin += len(src)
            changes = np.flatnonzero(t[1:] != t[:-1]) + 1
            if last is not None and t[0] != last:
                self._tie(np.array([run]))
                run = 0
            lengths = np.diff(np.concatenate([[0], changes, [len(t)]]))
            lengths[0] += run
            run, last = int(lengths[-1]), t[-1]
            self._tie(lengths[:-1])
        self._tie(np.array([run]))
        return num_nodes

    def _tie(self, lengths: Array) -> None:
        if lengths.size:
            self.distinct_times += len(lengths)
            self.tied += int(lengths[lengths > 1].sum())
            self.largest_tie = max(self.largest_tie, int(lengths.max()))

    def summary(self) -> dict[str, Any]:
        """Returns what a summary says of ends and times; the number of different pairs is not counted."""
        src, _, t = self.columns
        num_events = src.shape[0]
        degree = self.entries[1:].copy()
        for nodes in self._looping:
            np.subtract.at(degree, nodes, 1)
        ids = np.flatnonzero(self.is_source | self.is_destination)
        first, last = int(t.read(0, 1)[0]), int(t.read(num_events - 1, num_events)[0])
        return {
            "num_distinct_nodes": len(ids),
            "num_sources": int(self.is_source.sum()),
            "num_destinations": int(self.is_destination.sum()),
            "largest_source": int(np.flatnonzero(self.is_source)[-1]),
            "largest_destination": int(np.flatnonzero(self.is_destination)[-1]),
            "min_id": int(ids[0]),
            "bipartite": not bool((self.is_source & self.is_destination).any()),
            "first_time": first,
            "last_time": last,
            "time_unit": guess_time_unit(first, last),
            "num_distinct_times": self.distinct_times,
            "tied_share": self.tied / num_events,
            "largest_tie": self.largest_tie,
            "num_self_loops": sum(map(len, self.loops)),
            "degrees": asdict(degree_sketch(torch.from_numpy(degree[ids]))),
        }


def write_history(folder: Path, ends: Ends, memory: int, block: int, mark: str) -> dict[str, Column]:
    """Writes the files of the history, ``key``, ``neighbor``, ``indptr`` and those beside it, and returns them.

    Nodes are cut into ranges whose entries fit into memory. All entries are written once, grouped by range; those of a
    range are then sorted and follow those of the range before.

    Args:
        folder: Where to write.
        ends: What was counted.
        memory: Bytes of memory to use.
        block: How many events to read at a time.
        mark: Follows the names of the files.
    """
    indptr = np.cumsum(ends.entries)
    num_events = ends.columns[0].shape[0]
    limit = max(memory // (_ENTRY_BYTES * (_WORKERS + 1)), -(-4 * num_events // MOST_PARTS), 2)
    bounds = _node_bounds(indptr, limit)
    found = {"indptr": _written(folder / f"indptr{mark}.npy", [indptr])}
    del indptr
    found["loops"] = _written(folder / f"loops{mark}.npy", ends.loops)
    found["dst_range"] = _written(folder / f"dst_range{mark}.npy", [np.stack(ends.ranges)])
    narrow = max(num_events, len(ends.entries)) <= NARROW
    kind = np.dtype(np.uint32 if narrow else np.int64)
    columns = {"node": Column(folder / "node.runs", kind, (0,)), "entry": Column(folder / "entry.runs", kind, (0, 2))}
    runs = Regrouped({name: each.path for name, each in columns.items()}, columns, len(bounds) + 1)
    begin = 0
    for src, dst in zip(*(column.blocks(block) for column in ends.columns[:2]), strict=True):
        node = np.stack([src, dst], axis=1).reshape(-1)
        entry = np.empty((len(node), 2), dtype=kind)
        entry[:, 0] = np.repeat(np.arange(begin, begin + len(src)), 2)
        entry[0::2, 1], entry[1::2, 1] = dst, src
        runs.add(np.searchsorted(bounds, node, side="right"), {"node": node.astype(kind, copy=False), "entry": entry})
        begin += len(src)
    runs.close()
    key = ColumnWriter(folder / f"key{mark}.npy", np.int64)
    neighbor = ColumnWriter(folder / f"neighbor{mark}.npy", np.int64)
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting: list[Future[tuple[Array, Array]]] = []
        for part in range(len(bounds) + 1):
            if runs.count(part) <= limit:
                waiting.append(pool.submit(_sorted_part, runs, part, num_events))
            while len(waiting) >= _WORKERS or (waiting and runs.count(part) > limit):
                _append(key, neighbor, *waiting.pop(0).result())
            if runs.count(part) > limit:  # one node, whose entries are in order
                for each in runs.blocks(part):
                    _append(key, neighbor, *_entries(each["node"], each["entry"], num_events))
        for future in waiting:
            _append(key, neighbor, *future.result())
    runs.remove()
    return found | {"key": key.close(), "neighbor": neighbor.close()}


def _append(key: ColumnWriter, neighbor: ColumnWriter, keys: Array, neighbors: Array) -> None:
    key.append(keys)
    neighbor.append(neighbors)


def _sorted_part(runs: Regrouped, part: int, num_events: int) -> tuple[Array, Array]:
    if not runs.count(part):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    node = runs.whole(part, "node")
    order = sorted_order(node)
    node, entry = node.take(order), runs.whole(part, "entry")
    # Both numbers of an entry are moved at once: what costs time is where they are.
    both = np.uint64 if entry.itemsize == 4 else np.complex128
    return _entries(node, entry.view(both)[:, 0].take(order).view(entry.dtype).reshape(-1, 2), num_events)


def _entries(node: Array, entry: Array, num_events: int) -> tuple[Array, Array]:
    """Returns keys and neighbours, Int64[n] each."""
    key = node.astype(np.int64)
    key *= num_events
    key += entry[:, 0]
    return key, entry[:, 1]


def _node_bounds(indptr: Array, limit: int) -> Array:
    """Returns the nodes at which ranges begin, without the first; a range of more than ``limit`` entries is a node."""
    num_nodes, bounds, node = len(indptr) - 1, [], 0
    while node < num_nodes:
        end = int(np.searchsorted(indptr, indptr[node] + limit, side="right")) - 1
        node = max(end, node + 1)
        bounds.append(node)
    return np.array(bounds[:-1], dtype=np.int64)


def _written(path: Path, blocks: list[Array]) -> Column:
    writer = ColumnWriter(path, np.int64, blocks[0].shape[1:] if blocks else ())
    for block in blocks:
        writer.append(block)
    return writer.close()


def fingerprints(columns: Mapping[str, Column], block: int) -> dict[str, str]:
    """Returns the digests that a run in memory has of the stream, with and without messages.

    Args:
        columns: ``src``, ``dst``, ``t``, and ``msg`` if there are messages.
        block: How many rows to read at a time.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in ("src", "dst", "t"):
        column = columns[name]
        digest.update(f"{name} torch.int64 {column.shape}".encode())
        for values in column.blocks(block):
            digest.update(values.data.cast("B"))
    bare, shape = digest.copy(), (columns["t"].shape[0], 0)
    bare.update(f"msg torch.float32 {shape}".encode())
    if "msg" not in columns:
        return {"stream": bare.hexdigest(), "without_messages": bare.hexdigest()}
    msg = columns["msg"]
    digest.update(f"msg torch.float32 {msg.shape}".encode())
    for values in msg.blocks(block):
        digest.update(np.ascontiguousarray(values, dtype=np.float32).data.cast("B"))
    return {"stream": digest.hexdigest(), "without_messages": bare.hexdigest()}
