"""Which columns of a file are the fields of a stream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from pyg_mspipe.data.dates import fitting_formats
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.summary import guess_time_unit
from pyg_mspipe.data.tables import Table, column_names, first_unlike, is_like
from pyg_mspipe.data.text_files import TextForm

Columns: TypeAlias = Mapping[str, str | int | Sequence[str | int]]
"""The column or columns of each field, by name, or by number in a file of text without a header."""

_FIELDS = ("src", "dst", "t", "msg", "y")
_REQUIRED = _FIELDS[:3]
_NUMBERS = (pa.float64(),)
TIMES = (*_NUMBERS, pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
"""What a column of times may hold: each entry can be read as one of these."""

# Names that columns often have. They are proposed, and never taken without being asked for.
_OFTEN = {
    "src": ("source", "u", "user", "user_id", "from", "sender"),
    "dst": ("target", "destination", "i", "v", "item", "item_id", "to", "receiver"),
    "t": ("ts", "time", "timestamp", "date", "datetime"),
}


def has_header(columns: Columns | None) -> bool:
    """Returns whether a mapping is for a file whose columns have names, and not by number for one without a header."""
    return not any(isinstance(each, int) for chosen in (columns or {}).values() for each in _as_list(chosen))


def _as_list(chosen: str | int | Sequence[str | int]) -> list[str | int]:
    return [chosen] if isinstance(chosen, str | int) else list(chosen)


def match_columns(path: Path, columns: Columns, table: Table) -> dict[str, list[str]]:
    """Returns the file's columns for each field; only `msg` may have several, and only `msg` and `y` none.

    Raises:
        StreamError: If a column is not there or occurs twice, or if the first row is no header although it should be,
            or is one although it should not.
    """
    if has_header(columns):
        return _match(path, columns, table.names, table.form)
    numbers = {field: _as_list(chosen) for field, chosen in columns.items()}
    flat = [number for chosen in numbers.values() for number in chosen]
    missing = [field for field in _REQUIRED if field not in numbers]
    if missing or not all(isinstance(each, int) for each in flat):
        raise StreamError(
            f"columns is {dict(columns)}; where a file has no header, src, dst, t and all others need a number each"
        )
    count = len(table.names)
    beyond = [number for number in flat if not 0 <= int(number) < count]
    if beyond:
        raise StreamError(
            f"{path} has no column {beyond[0]}; it has {count} columns, {', '.join(map(str, range(min(count, 30))))}"
        )
    names = _match(path, {field: list(map(str, chosen)) for field, chosen in numbers.items()}, table.names, None)
    _refuse_header(path, table, names, columns)
    return names


def unused_columns(path: Path, columns: Columns | None = None, separator: str | None = None) -> list[str]:
    """Returns the columns of a file that the stream read from it does not use, in the file's order.

    Args:
        path: A file that `load_stream` can read.
        columns: The mapping that `load_stream` gets.
        separator: What `load_stream` gets.
    """
    chosen = columns or {}
    available = column_names(path, separator, has_header(columns))
    try:
        if not has_header(columns):
            chosen = {field: list(map(str, _as_list(each))) for field, each in chosen.items()}
        used = {name for names in _match(path, chosen, available, None).values() for name in names}
    except StreamError:
        return []
    return [name for name in available if name not in used]


def numbered(available: Sequence[str], name: str) -> list[str]:
    """Returns the columns ``NAME_0``, ``NAME_1`` and so on, by their numbers."""
    found = (column for column in available if re.fullmatch(rf"{name}_\d+", column))
    return sorted(found, key=lambda column: int(column[len(name) + 1 :]))


def _match(path: Path, columns: Columns, available: Sequence[str], form: TextForm | None) -> dict[str, list[str]]:
    for field, chosen in columns.items():
        if field not in _FIELDS:
            raise StreamError(f"columns has the key '{field}'; its keys are {', '.join(_FIELDS)}")
        if field != "msg" and not isinstance(chosen, str) and len(_as_list(chosen)) != 1:
            raise StreamError(f"columns['{field}'] is {chosen!r}; only msg can come from several columns")
    names = {field: list(map(str, _as_list(chosen))) for field, chosen in columns.items()}
    for field in _REQUIRED:
        names.setdefault(field, [field])
    if "y" in available:
        names.setdefault("y", ["y"])
    names.setdefault("msg", ["msg"] if "msg" in available else numbered(available, "msg"))

    twice = [each for chosen in names.values() for each in chosen if list(available).count(each) > 1]
    if twice:
        raise StreamError(f"{path} has {list(available).count(twice[0])} columns '{twice[0]}'; rename all but one")
    missing = {field: absent for field in names if (absent := [n for n in names[field] if n not in available])}
    if missing:
        lacking = ", ".join(f"'{name}'" for names_of_field in missing.values() for name in names_of_field)
        present = ", ".join(f"'{name}'" for name in available[:30]) + (", ..." if len(available) > 30 else "")
        mending = _mending_rows(form)
        if mending is not None:
            mend = Problem(mending, **mending.mends)
        else:
            mapping = ", ".join(f"'{field}': '...'" for field in missing)
            mend = Problem(f"pass columns={{{mapping}}}", **_likely_names(columns, missing, available))
        raise StreamError(Problem(f"{path} has no column {lacking}; it has {present}: {mend}", **mend.mends))
    return {field: chosen for field, chosen in names.items() if chosen}


def _likely_names(columns: Columns, missing: Mapping[str, object], available: Sequence[str]) -> dict[str, Columns]:
    """Returns a mapping with names that columns often have for the missing fields; empty if one of them has none."""
    found = {}
    for field in missing:
        near = [name for name in available if name.strip().lower() in (field, *_OFTEN.get(field, ()))]
        if len(near) != 1 or field in columns:
            return {}
        found[field] = near[0]
    return {"columns": {**columns, **found}}


def _mending_rows(form: TextForm | None) -> Problem | None:
    """Returns how to read a file of text whose first row looks like an event; None if it may well be a header."""
    if form is None or len(form.numbers) < len(_REQUIRED) or not any(map(_is_number_or_date, form.rows[0])):
        return None
    src, dst, t = likely_numbers(form.rows)
    mapping = {"src": src, "dst": dst, "t": t}
    return Problem(
        f"its first line looks like an event; name the columns there, or pass columns={mapping} to take these columns "
        f"as sources, destinations and times",
        columns=mapping,
    )


def _is_number_or_date(text: str) -> bool:
    known = any(is_like(text, kind) for kind in TIMES)
    return known or (re.search(r"\d", text) is not None and bool(fitting_formats(np.array([text], dtype=object))))


def likely_numbers(rows: Sequence[Sequence[str]]) -> tuple[int, int, int]:
    """Returns the columns that are likely to hold sources, destinations and times, by a file's first rows.

    Args:
        rows: The rows, without a header.
    """
    columns = [np.array(column, dtype=object) for column in zip(*rows, strict=False)]

    def unlike_times(place: int) -> int:
        column = columns[place]
        if not all(is_like(text, _NUMBERS[0]) for text in column):
            dates = any(is_like(column[0], kind) and first_unlike(column, [kind]) == 0 for kind in TIMES[1:])
            return 0 if dates or fitting_formats(column) else 4
        values = [float(text) for text in column]
        if not np.isfinite(values).all():
            return 4
        if guess_time_unit(int(min(values)), int(max(values))) != "relative":
            return 1
        return 2 if values == sorted(values) and values[0] != values[-1] else 3

    # Of those alike the first behind the two that are most likely sources and destinations.
    t = min(range(len(columns)), key=lambda place: (unlike_times(place), place < len(_REQUIRED) - 1, place))
    src, dst = [place for place in range(len(columns)) if place != t][:2]
    return src, dst, t


def _refuse_header(path: Path, table: Table, names: Mapping[str, Sequence[str]], columns: Columns) -> None:
    """Refuses a first row that names the columns, where it was said that none does: it would be an event."""
    form = table.form
    if form is None or len(form.rows) < 2:
        return
    first, second = (row[int(names["t"][0])] for row in form.rows[:2])
    if re.search(r"\d", first) or not re.search(r"\d", second):
        return
    by_name = {
        field: chosen[0] if field != "msg" else list(chosen)
        for field, chosen in ((field, [form.rows[0][int(each)] for each in names[field]]) for field in columns)
    }
    raise StreamError(
        Problem(
            f"{path}: {table.place(0)} holds {', '.join(form.rows[0][:10])!r}, which looks like a header; use its "
            f"names: pass columns={by_name}",
            columns=by_name,
        )
    )
