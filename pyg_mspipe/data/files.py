"""Reading of event streams from the columns of a file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.ids import Ids, UnusableIdError, ids_of, number_by_appearance
from pyg_mspipe.data.tables import Array, Table, column_names, first_unlike, is_like, open_table
from pyg_mspipe.data.temporal_data import temporal_data
from pyg_mspipe.data.validation import Place

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_NUMBERS = (pa.float64(),)
_TIMES = (*_NUMBERS, pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
_DATE = "2024-03-13 09:10"
# Times below it have differences that int64 holds.
_PAST_TIME = 2**62
_FIELDS = ("src", "dst", "t", "msg", "y")


class NamesAsIdsError(StreamError):
    """A file with ids that are not numbers was read without ``relabel``."""


def read_stream(
    path: Path,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    time_scale: float | None = None,
    bipartite: bool = False,
    relabel: bool = False,
) -> tuple[TemporalData, Place]:
    """Returns the unchecked events of a file, in its order, and a function that says where in the file an event is.

    `load_stream` explains the arguments.

    Raises:
        StreamError: If the file cannot be read, lacks a column, or holds what no tensor can hold.
    """
    if time_scale is not None and not 0.0 < time_scale < math.inf:
        raise StreamError(f"time_scale is {time_scale}; give a positive factor, such as 1000 for milliseconds")
    table = open_table(path)
    names = _match_columns(path, columns or {}, table.names)
    src, dst = (_ids(path, table, names[field][0], relabel=relabel) for field in ("src", "dst"))
    if len(src) != len(dst):
        raise StreamError(f"{path}: src has {len(src)} entries and dst {len(dst)}; give each one entry per event")
    if relabel:
        keys = (_keys(path, table, names[field][0], side) for field, side in (("src", src), ("dst", dst)))
        src, dst = number_by_appearance(*keys, separate=bipartite)
    if bipartite:
        offset = np.max(src, initial=-1, where=np.isfinite(src)) + 1
        dst = np.where(dst < 0, dst, dst + offset)  # a negative id stays negative, so that check_stream names it
    t = _times(path, table, names["t"][0], time_scale)
    data = temporal_data(src=torch.from_numpy(src), dst=torch.from_numpy(dst), t=torch.from_numpy(t))
    if "msg" in names:
        data.msg = _features(path, table, names["msg"])
    if "y" in names:
        labels = _column(path, table, names["y"][0])
        # A column that happens to be called y and holds no numbers is left out, unless the caller asked for it.
        if "y" in (columns or {}) or labels.dtype.kind in "iufb":
            data.y = torch.from_numpy(_numbers(path, table, names["y"][0]))
    return data, table.place


def read_label_columns(path: Path, *, time_scale: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns nodes, Int64[L], times, Int64[L], and labels, [L] or [L, C], of a file with a row for each label.

    Args:
        path: The file, with the columns ``node``, ``t`` and either ``y`` or ``y_0``, ``y_1`` and so on.
        time_scale: Multiplies the times, which are then rounded.

    Raises:
        StreamError: If the file cannot be read, lacks a column, or has no rows.
    """
    table = open_table(path)
    numbered = _numbered(table.names, "y")
    names = ["node", "t", *(["y"] if "y" in table.names else numbered or ["y"])]
    missing = [name for name in names if name not in table.names]
    if missing:
        present = ", ".join(table.names[:30])
        raise StreamError(f"{path} has no column {', '.join(missing)}; it has {present}: name them node, t and y")
    node = _ids(path, table, "node", relabel=False)
    t = _times(path, table, "t", time_scale)
    columns = [_numbers(path, table, name) for name in names[2:]]
    y = np.stack(columns, axis=1) if len(columns) > 1 or names[2] != "y" else columns[0]
    if not len(node) or len({len(node), len(t), len(y)}) > 1 or node.ndim != 1 or t.ndim != 1:
        raise StreamError(f"{path} has {len(node)} nodes, {len(t)} times and {len(y)} labels; give one of each per row")
    for name, values in (("node", node), ("t", t)):
        most = 2.0 / np.finfo(values.dtype).eps if values.dtype.kind == "f" else _PAST_TIME
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.trunc(values)) | (values >= most) | (values <= -most))
        if odd.size:
            raise StreamError(f"{path}: {table.place(int(odd[0]))}: {name} is {values[odd[0]]}, not a whole number")
    return torch.from_numpy(node.astype(np.int64)), torch.from_numpy(t.astype(np.int64)), torch.from_numpy(y)


def unused_columns(path: Path, columns: Mapping[str, str | Sequence[str]] | None = None) -> list[str]:
    """Returns the columns of a file that the stream read from it does not use, in the file's order.

    Args:
        path: A file that `read_stream` can read.
        columns: The mapping that `read_stream` gets.
    """
    available = column_names(path)
    try:
        used = {name for chosen in _match_columns(path, columns or {}, available).values() for name in chosen}
    except StreamError:
        return []
    return [name for name in available if name not in used]


def _match_columns(
    path: Path, columns: Mapping[str, str | Sequence[str]], available: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the file's columns for each field; only `msg` may have several, and only `msg` and `y` none."""
    for field, chosen in columns.items():
        if field not in _FIELDS:
            raise StreamError(f"columns has the key '{field}'; its keys are {', '.join(_FIELDS)}")
        if field != "msg" and not isinstance(chosen, str):
            raise StreamError(f"columns['{field}'] is {chosen!r}; only msg can come from several columns")
    names = {field: [chosen] if isinstance(chosen, str) else list(chosen) for field, chosen in columns.items()}
    for field in ("src", "dst", "t"):
        names.setdefault(field, [field])
    if "y" in available:
        names.setdefault("y", ["y"])
    names.setdefault("msg", ["msg"] if "msg" in available else _numbered(available, "msg"))

    twice = [each for chosen in names.values() for each in chosen if list(available).count(each) > 1]
    if twice:
        raise StreamError(f"{path} has {list(available).count(twice[0])} columns '{twice[0]}'; rename all but one")
    missing = {field: absent for field in names if (absent := [n for n in names[field] if n not in available])}
    if missing:
        lacking = ", ".join(f"'{name}'" for names_of_field in missing.values() for name in names_of_field)
        present = ", ".join(f"'{name}'" for name in available[:30]) + (", ..." if len(available) > 30 else "")
        mapping = ", ".join(f"'{field}': '...'" for field in missing)
        mend = _mend_of_csv(path, available) or f"pass columns={{{mapping}}}"
        raise StreamError(f"{path} has no column {lacking}; it has {present}: {mend}")
    return {field: chosen for field, chosen in names.items() if chosen}


def _numbered(available: Sequence[str], name: str) -> list[str]:
    """Returns the columns ``NAME_0``, ``NAME_1`` and so on, by their numbers."""
    found = (column for column in available if re.fullmatch(rf"{name}_\d+", column))
    return sorted(found, key=lambda column: int(column[len(name) + 1 :]))


def _mend_of_csv(path: Path, names: Sequence[str]) -> str:
    """Returns how to mend a CSV file with these column names in its first line; empty if they may be right."""
    if not path.name.endswith((".csv", ".csv.gz")):
        return ""
    separator = next((mark for mark in ";\t|" if mark in names[0]), None) if len(names) == 1 else None
    if separator is not None:
        return f"separate the columns by commas, not by {separator!r}"
    if any(is_like(name, kind) for name in names for kind in _TIMES):
        return "name the columns in the first line, which looks like an event"
    return ""


def _ids(path: Path, table: Table, name: str, *, relabel: bool) -> Array:
    """Returns node ids as int64 or float64; with `relabel`, as the file holds them, and refuses missing ids."""
    values = _column(path, table, name)
    if not relabel:
        if values.dtype.kind not in "iuf":
            mend = "pass relabel=True to number such ids from 0"
            holds = _holding(table, name, values, (pa.int64(),))
            raise NamesAsIdsError(f"{path}: {holds}, not integer ids; {mend}")
        if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
            place = table.place(int(np.argmax(values >= 2**63)))
            raise StreamError(f"{path}: {place}: column '{name}' holds {values.max()}, past 2**63; pass relabel=True")
        return _widen(values)
    missing = values != values if values.dtype.kind == "f" else [value is None or value == "" for value in values]
    if np.any(missing):
        place = table.place(int(np.argmax(missing)))
        raise StreamError(f"{path}: {place}: column '{name}' is empty or NA; fill in the id or drop the event")
    return values


def _keys(path: Path, table: Table, name: str, values: Array) -> Ids:
    """Returns the ids of a column as what they are; those of a text file by their texts."""
    try:
        return ids_of(values if table.text is None else table.text(name))
    except UnusableIdError as error:
        raise StreamError(f"{path}: {table.place(error.entry)}: column '{name}' {error}") from error


def _features(path: Path, table: Table, names: Sequence[str]) -> Tensor:
    """Returns the columns of features side by side, `msg: Float32[E, D]`."""
    blocks = [_numbers(path, table, name) for name in names]
    lengths = {len(block) for block in blocks}
    if len(lengths) > 1:
        raise StreamError(f"{path}: the columns of msg have different lengths {sorted(lengths)}; make them equal")
    rows = [block.reshape(len(block), math.prod(block.shape[1:])) for block in blocks]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which check_stream refuses
        return torch.from_numpy(np.concatenate(rows, axis=1, dtype=np.float32, casting="unsafe"))


def _times(path: Path, table: Table, name: str, time_scale: float | None) -> Array:
    """Returns the times of a column, scaled, and refuses those that int64 does not hold."""
    t = _numbers(path, table, name, times=True)
    factor = 1.0 if time_scale is None else time_scale
    finite = np.isfinite(t)
    for extreme in (np.argmax, np.argmin) if t.ndim == 1 and finite.any() else ():
        event = int(extreme(np.where(finite, t, t[finite][0])))
        value = t[event].item()
        if abs(value * (int(factor) if factor == int(factor) else factor)) >= _PAST_TIME:
            by = "" if time_scale is None else f" times {time_scale:g}"
            mend = (
                "pass a smaller time_scale" if time_scale is None else "leave time_scale out if these are finer already"
            )
            raise StreamError(f"{path}: {table.place(event)}: {name} is {value}{by}, past 2**62; {mend}")
    if time_scale is None:
        return t
    # whole times by a whole factor stay integers: a float64 product would round times past 2**53
    whole = t.dtype.kind == "i" and time_scale == int(time_scale)
    scaled: Array = t * int(time_scale) if whole else np.rint(t.astype(np.float64) * time_scale)
    return scaled


def _numbers(path: Path, table: Table, name: str, *, times: bool = False) -> Array:
    values = _column(path, table, name)
    if values.dtype.kind not in "iufb":
        holds = _holding(table, name, values, _TIMES if times else _NUMBERS)
        mend = f"it must hold numbers or dates; write dates as {_DATE}" if times else "it must hold numbers like 1200.5"
        raise StreamError(f"{path}: {holds}; {mend}")
    return _widen(values)


def _column(path: Path, table: Table, name: str) -> Array:
    values = table.column(name)
    if values.ndim == 0:
        raise StreamError(f"{path}: '{name}' is a single value; give one entry per event")
    return values


def _widen(values: Array) -> Array:
    """Returns a writable copy in native byte order: integers as int64, float32 as it is, other floats as float64."""
    kind = values.dtype.kind
    if kind == "u" and values.size and int(values.max()) >= 2**63:
        return values.copy()
    if kind in "iu":
        return values.astype(np.int64)
    return values.astype(np.float32 if values.dtype == np.float32 else np.float64) if kind == "f" else values.copy()


def _holding(table: Table, name: str, values: Array, kinds: Sequence[pa.DataType]) -> str:
    """Returns a text that names the first value that is of none of the kinds, and its place in the file."""
    if not values.size:
        return f"column '{name}' holds values of type {values.dtype}"
    entry = first_unlike(values, kinds)
    place = table.place(entry // math.prod(values.shape[1:]))
    return f"{place}: column '{name}' holds {values.reshape(-1)[entry : entry + 1].tolist()[0]!r}"
