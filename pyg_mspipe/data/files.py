"""Reading of event streams from the columns of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pyg_mspipe.data.columns import Columns, has_header, match_columns, numbered
from pyg_mspipe.data.dates import unit_of_format
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.fields import PAST_TIME, column_of, features_of, holding, numbers_of, times_of, widened
from pyg_mspipe.data.ids import Ids, UnusableIdError, ids_of, number_by_appearance
from pyg_mspipe.data.tables import Array, Table, open_table
from pyg_mspipe.data.text_files import is_comment
from pyg_mspipe.data.validation import Fields, Place

ReadIds: TypeAlias = Callable[[Path, Table, str, str], tuple[Array, Array]]
"""Reads the ids of sources and destinations from the columns with these names."""


def read_stream(
    path: Path,
    *,
    columns: Columns | None = None,
    separator: str | None = None,
    time_format: str | None = None,
    time_scale: float | None = None,
    bipartite: bool = False,
    relabel: bool = False,
) -> tuple[Fields, Place]:
    """Returns the unchecked events of a file, in its order, and a function that says where in the file an event is.

    `load_stream` explains the arguments.

    Raises:
        StreamError: If the file cannot be read, lacks a column, or holds what no tensor can hold.
    """
    if time_scale is not None and not 0.0 < time_scale < math.inf:
        raise StreamError(f"time_scale is {time_scale}; give a positive factor, such as 1000 for milliseconds")
    table = open_table(path, separator, has_header(columns))
    names = match_columns(path, columns or {}, table)
    ids = partial(_both_ids, bipartite=bipartite, relabel=relabel)
    wanted = "y" in (columns or {})
    return stream_of(path, table, names, ids, wanted, time_format=time_format, time_scale=time_scale), table.place


def stream_of(
    path: Path,
    table: Table,
    names: Mapping[str, Sequence[str]],
    ids: ReadIds,
    label_wanted: bool,
    *,
    time_format: str | None,
    time_scale: float | None,
) -> Fields:
    """Returns the unchecked events of rows of a file.

    Args:
        path: The file.
        table: The rows.
        names: The columns of each field.
        ids: Reads the ids.
        label_wanted: Whether labels that are no numbers are refused rather than left out.
        time_format: See `load_stream`.
        time_scale: See `load_stream`.

    Raises:
        StreamError: If the rows hold what no tensor can hold.
    """
    problems: list[str] = []

    def attempt(read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return read(path, table, *arguments, **options)
        except StreamError as error:
            problems.extend(error.problems)
            return None

    ends = attempt(ids, names["src"][0], names["dst"][0])
    t = attempt(times_of, names["t"][0], time_scale, time_format)
    msg = attempt(features_of, names["msg"]) if "msg" in names else None
    y = names.get("y", [None])[0]
    # A column that happens to be called y and holds no numbers is left out, unless the caller asked for it.
    wanted = y is not None and (label_wanted or column_of(path, table, y).dtype.kind in "iufb")
    labels = attempt(numbers_of, y) if wanted else None
    if problems:
        raise StreamError(*problems)
    fields = {"src": torch.from_numpy(ends[0]), "dst": torch.from_numpy(ends[1]), "t": torch.from_numpy(t)}
    if msg is not None:
        fields["msg"] = msg
    if labels is not None:
        fields["y"] = torch.from_numpy(labels)
    return fields


def time_unit(
    path: Path, columns: Columns | None = None, separator: str | None = None, time_format: str | None = None
) -> str | None:
    """Returns the unit that a file's dates are counted in, such as `days`; None where its times are numbers.

    Args:
        path: A file that `load_stream` can read.
        columns: The mapping that `load_stream` gets.
        separator: What `load_stream` gets.
        time_format: What `load_stream` gets.
    """
    if time_format is not None:
        return unit_of_format(time_format)
    table = open_table(path, separator, has_header(columns))
    return table.unit(match_columns(path, columns or {}, table)["t"][0])


def read_label_columns(path: Path, *, time_scale: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns nodes, Int64[L], times, Int64[L], and labels, [L] or [L, C], of a file with a row for each label.

    Args:
        path: The file, with the columns ``node``, ``t`` and either ``y`` or ``y_0``, ``y_1`` and so on.
        time_scale: Multiplies the times, which are then rounded.

    Raises:
        StreamError: If the file cannot be read, lacks a column, or has no rows.
    """
    table = open_table(path)
    in_turn = numbered(table.names, "y")
    names = ["node", "t", *(["y"] if "y" in table.names else in_turn or ["y"])]
    missing = [name for name in names if name not in table.names]
    if missing:
        present = ", ".join(table.names[:30])
        raise StreamError(f"{path} has no column {', '.join(missing)}; it has {present}: name them node, t and y")
    node = column_ids(path, table, "node", relabel=False)
    t = times_of(path, table, "t", time_scale)
    columns = [numbers_of(path, table, name) for name in names[2:]]
    y = np.stack(columns, axis=1) if len(columns) > 1 or names[2] != "y" else columns[0]
    if not len(node) or len({len(node), len(t), len(y)}) > 1 or node.ndim != 1 or t.ndim != 1:
        raise StreamError(f"{path} has {len(node)} nodes, {len(t)} times and {len(y)} labels; give one of each per row")
    for name, values in (("node", node), ("t", t)):
        most = 2.0 / np.finfo(values.dtype).eps if values.dtype.kind == "f" else PAST_TIME
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.trunc(values)) | (values >= most) | (values <= -most))
        if odd.size:
            raise StreamError(f"{path}: {table.place(int(odd[0]))}: {name} is {values[odd[0]]}, not a whole number")
    return torch.from_numpy(node.astype(np.int64)), torch.from_numpy(t.astype(np.int64)), torch.from_numpy(y)


def _both_ids(
    path: Path, table: Table, src_name: str, dst_name: str, *, bipartite: bool, relabel: bool
) -> tuple[Array, Array]:
    """Returns the ids of sources and destinations, Int64[E] or Float64[E] each."""
    src, dst = (column_ids(path, table, name, relabel=relabel) for name in (src_name, dst_name))
    if len(src) != len(dst):
        raise StreamError(f"{path}: src has {len(src)} entries and dst {len(dst)}; give each one entry per event")
    if relabel:
        keys = [_keys(path, table, name, side) for name, side in ((src_name, src), (dst_name, dst))]
        for sides in ([keys[0]], [keys[1]]) if bipartite else [keys]:
            _refuse_blanks(path, sides)
        src, dst = number_by_appearance(*keys, separate=bipartite)
    if bipartite:
        offset = np.max(src, initial=-1, where=np.isfinite(src)) + 1
        dst = np.where(dst < 0, dst, dst + offset)  # a negative id stays negative, so that check_stream names it
    return src, dst


def column_ids(path: Path, table: Table, name: str, *, relabel: bool) -> Array:
    """Returns node ids as int64 or float64; with `relabel`, as the file holds them, and refuses missing ids."""
    values = column_of(path, table, name)
    if not relabel:
        if values.dtype.kind not in "iuf":
            mend = "pass relabel=True to number such ids from 0"
            holds = holding(table, name, values, (pa.int64(),))
            raise StreamError(Problem(f"{path}: {holds}, not integer ids; {mend}", relabel=True))
        if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
            place = table.place(int(np.argmax(values >= 2**63)))
            text = f"{path}: {place}: column '{name}' holds {values.max()}, past 2**63; pass relabel=True"
            raise StreamError(Problem(text, relabel=True))
        return widened(values)
    if values.dtype.kind in "iu":
        return values
    missing = values != values if values.dtype.kind == "f" else [value is None or value == "" for value in values]
    if np.any(missing):
        place = table.place(int(np.argmax(missing)))
        raise StreamError(f"{path}: {place}: column '{name}' is empty or NA; fill in the id or drop the event")
    if table.form is not None and name == table.names[0] and values.dtype.kind == "O":
        comment = next((event for event, value in enumerate(values) if is_comment(value)), None)
        if comment is not None:
            raise StreamError(f"{path}: {table.place(comment)} is like a comment and like an event; delete the line")
    return values


def _keys(path: Path, table: Table, name: str, values: Array) -> Ids:
    """Returns the ids of a column as what they are; those of a text file by their texts."""
    try:
        return ids_of(values if table.text is None else table.text(name))
    except UnusableIdError as error:
        raise StreamError(f"{path}: {table.place(error.entry)}: column '{name}' {error}") from error


def _refuse_blanks(path: Path, sides: Sequence[Ids]) -> None:
    """Refuses ids that differ in the blanks around them alone, as in ``a | b``: they are hardly meant as two nodes."""
    by_bare: dict[str, str] = {}
    for text in (str(key) for side in sides for key in side.key):
        other = by_bare.setdefault(text.strip(), text)
        if other != text:
            raise StreamError(f"{path}: the ids {other!r} and {text!r} differ in blanks alone; remove those around ids")
