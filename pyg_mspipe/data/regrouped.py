"""Rows in a temporary file, grouped into parts of which each fits into memory, and sorted part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pyg_mspipe.data.column_file import Column, ColumnWriter
from pyg_mspipe.data.tables import Array

MOST_PARTS = 1 << 15


class Regrouped:
    """Rows that are written block by block, each with the number of its part, and read part by part in their order.

    Args:
        paths: A temporary file for each column.
        like: A column of the same type for each.
        parts: How many parts there are, at most ``MOST_PARTS``.
    """

    def __init__(self, paths: Mapping[str, Path], like: Mapping[str, Column], parts: int) -> None:
        self._writers = {name: ColumnWriter(paths[name], like[name].dtype, like[name].shape[1:]) for name in paths}
        self._parts = parts
        self._ends: list[Array] = []
        self._rows = 0

    def add(self, part: Array, values: Mapping[str, Array]) -> None:
        """Writes a block of rows.

        Args:
            part: Int[n], the part of each.
            values: [n, ...], by column.
        """
        small = part.astype(np.uint8 if self._parts <= 256 else np.uint16)
        order = np.argsort(small, kind="stable")  # for types so small numpy counts
        for name, writer in self._writers.items():
            writer.append(values[name].take(order, axis=0))
        self._ends.append(self._rows + np.bincount(small, minlength=self._parts).cumsum())
        self._rows += len(part)

    def close(self) -> None:
        """Ends the writing."""
        self._columns = {name: writer.close(sync=False) for name, writer in self._writers.items()}
        begins = [0, *(int(ends[-1]) for ends in self._ends)][: len(self._ends)]
        self._starts = [np.concatenate([[b], ends[:-1]]) for b, ends in zip(begins, self._ends, strict=True)]

    def count(self, part: int) -> int:
        """Returns how many rows a part has."""
        return sum(int(ends[part] - starts[part]) for starts, ends in zip(self._starts, self._ends, strict=True))

    def blocks(self, part: int, names: Sequence[str] | None = None) -> Iterator[dict[str, Array]]:
        """Yields the rows of a part, as many at a time as one block brought.

        Args:
            part: The part.
            names: Which columns; by default all.
        """
        for starts, ends in zip(self._starts, self._ends, strict=True):
            if ends[part] > starts[part]:
                span = int(starts[part]), int(ends[part])
                yield {name: self._columns[name].read(*span) for name in names or self._columns}

    def whole(self, part: int, name: str) -> Array:
        """Returns a column of a part."""
        return np.concatenate([block[name] for block in self.blocks(part, [name])])

    def remove(self) -> None:
        """Removes the files."""
        for column in self._columns.values():
            column.path.unlink()


def sorted_order(key: Array) -> Array:
    """Returns the order that sorts numbers, equal ones in their order: Int64[n].

    Args:
        key: Int[n].
    """
    if not key.size:
        return np.empty(0, dtype=np.int64)
    low, high = int(key.min()), int(key.max())
    bits = max(len(key) - 1, 1).bit_length()
    if (high - low).bit_length() + bits > 63:
        order: Array = np.argsort(key, kind="stable")
        return order
    # Sorting numbers is several times as fast as sorting their places: so places stand in their low bits.
    packed = (key.astype(np.int64) - low) << bits
    packed |= np.arange(len(key))
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


def sort_by_time(columns: Mapping[str, Column], sample: Array, limit: int, block: int) -> dict[str, Column]:
    """Sorts columns by ``t``, equal times in their order, and returns them.

    Times are cut at quantiles into parts of at most about ``limit`` rows. Those of one part are sorted in memory, and
    follow those of the part before.

    Args:
        columns: ``t`` and all others, replaced here.
        sample: Int64[S], some of the times, drawn from everywhere.
        limit: How many rows may be in memory.
        block: How many rows to read at a time.
    """
    bounds = _bounds(np.sort(sample), -(-2 * columns["t"].shape[0] // limit))
    paths = {name: column.path.with_suffix(".runs") for name, column in columns.items()}
    runs = Regrouped(paths, columns, len(bounds) + 1)
    readers = {name: column.blocks(block) for name, column in columns.items()}
    for t in readers.pop("t"):
        part = np.searchsorted(bounds, t, side="right")
        runs.add(part, {"t": t} | {name: next(reader) for name, reader in readers.items()})
    runs.close()
    writers = {name: ColumnWriter(each.path, each.dtype, each.shape[1:]) for name, each in columns.items()}
    for place in range(len(bounds) + 1):
        _write_sorted(runs, place, writers, limit)
    runs.remove()
    return {name: writer.close() for name, writer in writers.items()}


def _bounds(ordered: Array, parts: int) -> Array:
    """Returns the times at which parts begin, without the first; a time of more than a part is alone in its own."""
    at = np.linspace(0, len(ordered), min(parts, MOST_PARTS // 2) + 1).astype(np.int64)[1:-1]
    found = ordered[at]
    often, counts = np.unique(found, return_counts=True)
    return np.unique(np.concatenate([found, often[counts > 1] + 1]))


def _write_sorted(runs: Regrouped, part: int, writers: Mapping[str, ColumnWriter], limit: int) -> None:
    count = runs.count(part)
    if not count:
        return
    if count > limit:
        ends = [(int(each["t"].min()), int(each["t"].max())) for each in runs.blocks(part, ["t"])]
        if min(ends)[0] == max(high for _, high in ends):  # they are in order
            for values in runs.blocks(part):
                for name, writer in writers.items():
                    writer.append(values[name])
            return
    t = runs.whole(part, "t")
    order = sorted_order(t)
    writers["t"].append(t.take(order))
    del t
    for name, writer in writers.items():
        if name != "t":
            writer.append(runs.whole(part, name).take(order, axis=0))
