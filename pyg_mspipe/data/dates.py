"""Dates that are written in a format of their own, and the units that dates are counted in."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pyg_mspipe.data.errors import StreamError

_DAYS = ("%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y.%m.%d")
_HOURS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_OF_A_DAY = ("%H", "%I", "%M", "%S", "%p", "%f", "%z", "%Z", "%c", "%X", "%T", "%R")
_MOMENTS = ("now", "today")  # which pandas takes for dates in any format
_WORDS = {"D": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_WORDS["ns"] = "nanoseconds"
SECONDS = dict(zip(_WORDS.values(), (86_400.0, 3_600.0, 60.0, 1.0, 1e-3, 1e-6, 1e-9), strict=True))
"""The units that dates may be counted in, with their lengths in seconds."""

# Of a long column, so many texts tell which formats may fit; all texts are looked at then.
_SOME = 1000


def unit_of_format(time_format: str) -> str:
    """Returns the unit of dates in a format, one of `SECONDS`; the same as of dates in the form of ISO 8601."""
    if "%f" in time_format:
        return "microseconds"
    return "seconds" if any(each in time_format for each in _OF_A_DAY) else "days"


def unit_of_type(kind: pa.DataType | np.dtype[Any]) -> str | None:
    """Returns the unit that dates of an Arrow or numpy type are counted in, one of `SECONDS`; None for other types."""
    if isinstance(kind, np.dtype):
        unit, step = np.datetime_data(kind) if kind.kind == "M" else ("", 1)
        return _WORDS.get(unit) if step == 1 else None
    if pa.types.is_timestamp(kind):
        return _WORDS[kind.unit]
    return "days" if pa.types.is_date32(kind) else "milliseconds" if pa.types.is_date64(kind) else None


def count_dates(texts: npt.NDArray[Any], time_format: str) -> tuple[npt.NDArray[np.int64], int | None]:
    """Returns texts as numbers since 1970 in UTC, Int64[E], and the first that does not have the format, if any.

    Args:
        texts: [E], texts; None where one is missing.
        time_format: The format, as in Python's ``strptime``.

    Raises:
        StreamError: If there is no such format.
    """
    import pandas as pd  # takes half a second, and few files need it

    unit = {"days": "D", "seconds": "s", "microseconds": "us"}[unit_of_format(time_format)]
    try:
        parsed = pd.to_datetime(
            pd.Series(texts, dtype=object), format=time_format, errors="coerce", utc="%z" in time_format.lower()
        )
    except (ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise StreamError(f"time_format {time_format!r} is none ({reason}); write it as '%d-%m-%Y %H:%M'") from error
    found = parsed.dt.tz_localize(None).to_numpy()
    dates = found.astype(f"datetime64[{unit}]")
    odd = np.flatnonzero((found != dates) | np.isin(texts.astype(str), _MOMENTS))  # a date that is none equals nothing
    return dates.astype(np.int64), int(odd[0]) if odd.size else None


def fitting_formats(texts: npt.NDArray[Any]) -> list[str]:
    """Returns the usual formats of dates that all texts have.

    Args:
        texts: [E], texts; None where one is missing.
    """
    formats = [f"{day}{hour}" for day, hour in product(_DAYS, _HOURS)] if len(texts) else []
    for some in (texts[:1], texts[:_SOME], texts):
        formats = [each for each in formats if count_dates(some, each)[1] is None]
    return formats
