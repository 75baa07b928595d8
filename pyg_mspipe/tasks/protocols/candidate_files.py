"""Files of a user's own candidates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.tables import Array, Table, open_table
from pyg_mspipe.tasks.protocols.candidates import Candidates, about_file, stream_digest

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def read_candidates(path: str | Path, data: TemporalData, events: range) -> Candidates:
    """Returns the candidates that a file has for some events, in the file's order for each.

    Args:
        path: One of

            * a ``.csv``, ``.txt``, ``.tsv``, ``.parquet`` or ``.npz`` file with the columns ``event``, an event id, and
              ``dst``, a destination by the stream's ids; an event has as many rows as it has candidates, anywhere;
            * a ``.npy`` file, an array of whole numbers with a row for each of ``events``, in their order. This is how
              TGB-Seq gives the negatives of its test events, 100 for each: ``NAME_test_ns.npy``;
            * a file that :meth:`Candidates.save` wrote.
        data: The stream.
        events: The events that must have candidates, such as the test events. What a file has for others is left out.

    Raises:
        StreamError: If the file cannot be read, an id is not one of the stream's, or an event has no candidate.
    """
    path = Path(path)
    if path.suffix == ".npy":
        return _rows_in_order(path, data, events)
    if path.suffix == ".parquet" and path.is_file() and _is_saved(path):
        saved = Candidates.load(path, {"stream": stream_digest(data)})
        known = saved.events
        if events and (events.start < known.start or events.stop > known.stop):
            raise StreamError(
                f"{path} has candidates for the events {known.start} to {known.stop - 1}, not for all of "
                f"{events.start} to {events.stop - 1}; name the file of that part"
            )
        return saved
    table = open_table(path)
    missing = [name for name in ("event", "dst") if name not in table.names]
    if missing:
        raise StreamError(
            f"{path} has no column {' and no column '.join(missing)}; it has {', '.join(table.names[:30])}: name them "
            f"event, the event's id, and dst"
        )
    event, dst = (_whole(path, table, name) for name in ("event", "dst"))
    if event.shape != dst.shape:
        raise StreamError(f"{path} has {len(event)} events and {len(dst)} destinations; give one of each for each row")
    _check(path, table, "event", event, data.num_events, f"the stream has the events 0 to {data.num_events - 1}")
    num_nodes = _num_nodes(data)
    _check(path, table, "dst", dst, num_nodes, f"the stream has the nodes 0 to {num_nodes - 1}, by its own numbers")
    of_part = (event >= events.start) & (event < events.stop)
    place, dst = event[of_part] - events.start, dst[of_part]
    count = np.bincount(place, minlength=len(events))
    if not count.all():
        odd = events.start + int(np.argmin(count))
        raise StreamError(
            f"{path} has no candidates for event {odd}; every event from {events.start} to {events.stop - 1} needs some"
        )
    ptr = torch.from_numpy(np.concatenate([[0], count.cumsum()]))
    return Candidates(events.start, ptr, torch.from_numpy(dst[place.argsort(kind="stable")]))


def _rows_in_order(path: Path, data: TemporalData, events: range) -> Candidates:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StreamError(f"{path} cannot be read ({reason}); write it with numpy.save") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "iu" or not rows.shape[1]:
        what = f"{rows.dtype} of shape {list(rows.shape)}" if isinstance(rows, np.ndarray) else "several arrays"
        raise StreamError(f"{path} holds {what}; save one array of whole numbers, [events, candidates of each]")
    if len(rows) != len(events):
        raise StreamError(
            f"{path} has {len(rows)} rows, and the part that it is for {len(events)} events; split the stream as the "
            f"file's author did, such as with val_time and test_time"
        )
    num_nodes = _num_nodes(data)
    odd = np.flatnonzero(((rows < 0) | (rows >= num_nodes)).any(axis=1))
    if odd.size:
        row, low, high = int(odd[0]), int(rows[odd[0]].min()), int(rows[odd[0]].max())
        raise StreamError(
            f"{path}: row {row}, of event {events.start + row}: node {low if low < 0 else high} is none of the "
            f"stream's {num_nodes}; number nodes as the stream does"
        )
    ptr = torch.arange(len(rows) + 1) * rows.shape[1]
    return Candidates(events.start, ptr, torch.from_numpy(rows.astype(np.int64).reshape(-1)))


def _is_saved(path: Path) -> bool:
    try:
        return about_file(path) is not None
    except (OSError, ValueError, pa.ArrowException):
        return False  # what is wrong with it is said when it is read as any other file


def _num_nodes(data: TemporalData) -> int:
    return int(torch.maximum(data.src.max(), data.dst.max())) + 1


def _whole(path: Path, table: Table, name: str) -> Array:
    """Returns a column of whole numbers: Int64[M]."""
    values = table.column(name)
    if values.ndim != 1:
        raise StreamError(f"{path}: column '{name}' holds lists; give a row for each candidate, with one id")
    if values.dtype.kind not in "iuf":
        raise StreamError(f"{path}: column '{name}' holds {values.dtype}, not whole numbers; give ids of the stream")
    odd = np.flatnonzero(~np.isfinite(values) | (values != np.trunc(values)) | (np.abs(values) >= 2.0**53))
    if values.dtype.kind == "f" and odd.size:
        raise StreamError(
            f"{path}: {_row(table, odd[0])}: {name} is {values[odd[0]]}, not a whole number; give an id of the stream"
        )
    return values.astype(np.int64)


def _check(path: Path, table: Table, name: str, values: Array, end: int, known: str) -> None:
    odd = np.flatnonzero((values < 0) | (values >= end))
    if odd.size:
        raise StreamError(
            f"{path}: {_row(table, odd[0])}: {name} is {values[odd[0]]}; {known}: drop the row or mend it"
        )


def _row(table: Table, row: int) -> str:
    return table.place(int(row)).replace("event", "row", 1)
