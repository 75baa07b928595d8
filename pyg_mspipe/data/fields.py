"""Columns of a file as the numbers that a stream holds: times, features and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pyg_mspipe.data.columns import TIMES
from pyg_mspipe.data.dates import count_dates, fitting_formats
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.tables import Array, Table, first_unlike

_NUMBERS = (pa.float64(),)
_DATE = "2024-03-13 09:10"
PAST_TIME = 2**62
"""Times below it have differences that int64 holds."""


def features_of(path: Path, table: Table, names: Sequence[str]) -> Tensor:
    """Returns the columns of features side by side, `msg: Float32[E, D]`."""
    blocks = [numbers_of(path, table, name) for name in names]
    lengths = {len(block) for block in blocks}
    if len(lengths) > 1:
        raise StreamError(f"{path}: the columns of msg have different lengths {sorted(lengths)}; make them equal")
    rows = [block.reshape(len(block), math.prod(block.shape[1:])) for block in blocks]
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which check_stream refuses
        return torch.from_numpy(np.concatenate(rows, axis=1, dtype=np.float32, casting="unsafe"))


def times_of(path: Path, table: Table, name: str, time_scale: float | None, time_format: str | None = None) -> Array:
    """Returns the times of a column, scaled, and refuses those that int64 does not hold."""
    t = _dates(path, table, name, time_format) if time_format is not None else numbers_of(path, table, name, times=True)
    factor = 1.0 if time_scale is None else time_scale
    finite = np.isfinite(t)
    for extreme in (np.argmax, np.argmin) if t.ndim == 1 and finite.any() else ():
        event = int(extreme(np.where(finite, t, t[finite][0])))
        value = t[event].item()
        if abs(value * (int(factor) if factor == int(factor) else factor)) >= PAST_TIME:
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


def numbers_of(path: Path, table: Table, name: str, *, times: bool = False) -> Array:
    """Returns a column of numbers, or of times, and refuses another."""
    values = column_of(path, table, name)
    if values.dtype.kind not in "iufb":
        if times and values.dtype.kind in "OU":
            _refuse_dates(path, table, name, values)
        raise StreamError(f"{path}: {holding(table, name, values, _NUMBERS)}; it must hold numbers like 1200.5")
    return widened(values)


def _refuse_dates(path: Path, table: Table, name: str, texts: Array) -> None:
    """Refuses times that are texts, and proposes the formats that all of them have, if there are some."""
    holds = holding(table, name, texts, TIMES)
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
    texts = column_of(path, table, name) if table.text is None else table.text(name)
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


def column_of(path: Path, table: Table, name: str) -> Array:
    """Returns a column, and refuses a single value."""
    values = table.column(name)
    if values.ndim == 0:
        raise StreamError(f"{path}: '{name}' is a single value; give one entry per event")
    return values


def widened(values: Array) -> Array:
    """Returns a writable copy in native byte order: integers as int64, float32 as it is, other floats as float64."""
    kind = values.dtype.kind
    if kind == "u" and values.size and int(values.max()) >= 2**63:
        return values.copy()
    if kind in "iu":
        return values.astype(np.int64)
    return values.astype(np.float32 if values.dtype == np.float32 else np.float64) if kind == "f" else values.copy()


def holding(table: Table, name: str, values: Array, kinds: Sequence[pa.DataType]) -> str:
    """Returns a text that names the first value that is of none of the kinds, and its place in the file."""
    if not values.size:
        return f"column '{name}' holds values of type {values.dtype}"
    entry = first_unlike(values, kinds)
    place = table.place(entry // math.prod(values.shape[1:]))
    return f"{place}: column '{name}' holds {values.reshape(-1)[entry : entry + 1].tolist()[0]!r}"
