"""Reading of event streams from the columns of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pyg_mspipe.data.columns import TIMES, Columns, has_header, match_columns, numbered
from pyg_mspipe.data.dates import count_dates, fitting_formats, unit_of_format
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.ids import Ids, UnusableIdError, ids_of, number_by_appearance
from pyg_mspipe.data.tables import Array, Table, first_unlike, open_table
from pyg_mspipe.data.text_files import is_comment
from pyg_mspipe.data.validation import Fields, Place

_NUMBERS = (pa.float64(),)
_DATE = "2024-03-13 09:10"
# Times below it have differences that int64 holds.
_PAST_TIME = 2**62


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
    problems: list[str] = []

    def attempt(read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return read(path, table, *arguments, **options)
        except StreamError as error:
            problems.extend(error.problems)
            return None

    ids = attempt(_both_ids, names["src"][0], names["dst"][0], bipartite=bipartite, relabel=relabel)
    t = attempt(_times, names["t"][0], time_scale, time_format)
    msg = attempt(_features, names["msg"]) if "msg" in names else None
    y = names.get("y", [None])[0]
    # A column that happens to be called y and holds no numbers is left out, unless the caller asked for it.
    wanted = y is not None and ("y" in (columns or {}) or _column(path, table, y).dtype.kind in "iufb")
    labels = attempt(_numbers, y) if wanted else None
    if problems:
        raise StreamError(*problems)
    fields = {"src": torch.from_numpy(ids[0]), "dst": torch.from_numpy(ids[1]), "t": torch.from_numpy(t)}
    if msg is not None:
        fields["msg"] = msg
    if labels is not None:
        fields["y"] = torch.from_numpy(labels)
    return fields, table.place


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


def _both_ids(
    path: Path, table: Table, src_name: str, dst_name: str, *, bipartite: bool, relabel: bool
) -> tuple[Array, Array]:
    """Returns the ids of sources and destinations, Int64[E] or Float64[E] each."""
    src, dst = (_ids(path, table, name, relabel=relabel) for name in (src_name, dst_name))
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


def _ids(path: Path, table: Table, name: str, *, relabel: bool) -> Array:
    """Returns node ids as int64 or float64; with `relabel`, as the file holds them, and refuses missing ids."""
    values = _column(path, table, name)
    if not relabel:
        if values.dtype.kind not in "iuf":
            mend = "pass relabel=True to number such ids from 0"
            holds = _holding(table, name, values, (pa.int64(),))
            raise StreamError(Problem(f"{path}: {holds}, not integer ids; {mend}", relabel=True))
        if values.dtype.kind == "u" and values.size and int(values.max()) >= 2**63:
            place = table.place(int(np.argmax(values >= 2**63)))
            text = f"{path}: {place}: column '{name}' holds {values.max()}, past 2**63; pass relabel=True"
            raise StreamError(Problem(text, relabel=True))
        return _widen(values)
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


def _features(path: Path, table: Table, names: Sequence[str]) -> Tensor:
    """Returns the columns of features side by side, `msg: Float32[E, D]`."""
    blocks = [_numbers(path, table, name) for name in names]
    lengths = {len(block) for block in blocks}
    if len(lengths) > 1:
        raise StreamError(f"{path}: the columns of msg have different lengths {sorted(lengths)}; make them equal")
    rows = [block.reshape(len(block), math.prod(block.shape[1:])) for block in blocks]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which check_stream refuses
        return torch.from_numpy(np.concatenate(rows, axis=1, dtype=np.float32, casting="unsafe"))


def _times(path: Path, table: Table, name: str, time_scale: float | None, time_format: str | None = None) -> Array:
    """Returns the times of a column, scaled, and refuses those that int64 does not hold."""
    t = _dates(path, table, name, time_format) if time_format is not None else _numbers(path, table, name, times=True)
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
        if times and values.dtype.kind in "OU":
            _refuse_dates(path, table, name, values)
        raise StreamError(f"{path}: {_holding(table, name, values, _NUMBERS)}; it must hold numbers like 1200.5")
    return _widen(values)


def _refuse_dates(path: Path, table: Table, name: str, texts: Array) -> None:
    """Refuses times that are texts, and proposes the formats that all of them have, if there are some."""
    holds = _holding(table, name, texts, TIMES)
    formats = fitting_formats(texts)
    if not formats:
        raise StreamError(
            f"{path}: {holds}; it must hold numbers or dates; write dates as {_DATE}, or give their form: pass "
            f"time_format='%d-%m-%Y'"
        )
    choice = " or ".join(f"time_format={each!r}" for each in formats)
    mend = {"time_format": formats[0]} if len(formats) == 1 else {}
    raise StreamError(Problem(f"{path}: {holds}; pass {choice}", **mend))


def _dates(path: Path, table: Table, name: str, time_format: str) -> Array:
    """Returns dates in a format as numbers since 1970, Int64[E], as if the file had them in the form of ISO 8601."""
    texts = _column(path, table, name) if table.text is None else table.text(name)
    if texts.dtype.kind not in "OU" or texts.ndim != 1:
        raise StreamError(f"{path}: column '{name}' holds no texts; leave out time_format, which is for them")
    t, odd = count_dates(texts, time_format)
    if odd is None:
        return t
    others = [each for each in fitting_formats(texts) if each != time_format]
    mend = f"; pass {' or '.join(f'time_format={each!r}' for each in others)}" if others else "; mend the line"
    raise StreamError(
        Problem(
            f"{path}: {table.place(odd)}: column '{name}' holds {texts[odd]!r}, not a date of the form {time_format!r}"
            f"{mend}",
            **({"time_format": others[0]} if len(others) == 1 else {}),
        )
    )


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
