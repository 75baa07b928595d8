"""Numbering of node ids of any kind, in which every id keeps its identity."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from pyg_mspipe.data.tables import Array

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")


class UnusableIdError(ValueError):
    """An id that cannot be told from others.

    Attributes:
        entry: Its event.
    """

    def __init__(self, entry: int, problem: str) -> None:
        super().__init__(problem)
        self.entry = entry


@dataclass(frozen=True)
class Ids:
    """The ids of one side of a stream's events.

    Attributes:
        code: Int64[E], the place of each event's id in ``key``.
        key: The ids that occur, each once; whole numbers are ``int``, all else is text.
    """

    code: Array
    key: list[int | str]


def ids_of(values: Array) -> Ids:
    """Returns the ids of a column, each as what it is: nothing is rounded, and no text becomes another.

    A whole number is the same id whether it is an integer, a float, or a text that is written like either, as in
    ``7`` and ``7.0``; other texts, such as ``007`` and ``1e3``, are ids of their own.

    Args:
        values: [E], numbers or texts, none missing.

    Raises:
        UnusableIdError: If the column holds what is no id.
    """
    if values.ndim != 1 or values.dtype.kind not in "iufUSO":
        raise UnusableIdError(0, f"holds values of type {values.dtype}; give a number or a text for each event")
    if values.dtype.kind == "f":
        most = 2.0 / np.finfo(values.dtype).eps
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.trunc(values)) | (np.abs(values) >= most))
        if odd.size:
            one = values[odd[0]].item()
            raise UnusableIdError(int(odd[0]), f"holds {one!r}, which is no id; give ids as integers or as texts")
    if values.dtype.kind == "O":
        return _objects(values)
    unique, code = np.unique(values, return_inverse=True)
    if values.dtype.kind == "S":
        unique = np.char.decode(unique, "utf-8", "surrogateescape")
    return _merged(code, [_key(each) for each in unique.tolist()])


def _objects(values: Array) -> Ids:
    place: dict[object, int] = {}
    code = np.empty(len(values), dtype=np.int64)
    for entry, value in enumerate(values.tolist()):
        if not isinstance(value, int | str | Decimal | float) or isinstance(value, bool):
            raise UnusableIdError(entry, f"holds {value!r}, not an id; give a number or a text")
        code[entry] = place.setdefault(value if isinstance(value, str) else Decimal(value), len(place))
    try:
        return _merged(code, [_key(each) for each in place])
    except ValueError as error:
        raise UnusableIdError(0, str(error)) from error


def _key(value: object) -> int | str:
    """Returns an id as a whole number, if it is one, or a text."""
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value)
        return value if whole is None else int(whole[1])
    number = Decimal(value)  # type: ignore[arg-type]
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"holds {value}, not a whole number; give ids as whole numbers or texts")
    return int(number)


def _merged(code: Array, keys: list[int | str]) -> Ids:
    """Returns ids in which no two keys are equal."""
    place: dict[int | str, int] = {}
    moved = np.array([place.setdefault(key, len(place)) for key in keys], dtype=np.int64)
    return Ids(moved[code.reshape(-1)], list(place))


def number_by_appearance(src: Ids, dst: Ids, *, separate: bool) -> tuple[Array, Array]:
    """Returns ids numbered from 0 in the order of their appearance, event by event, source first: Int64[E] each.

    Args:
        src: Of the sources.
        dst: Of the destinations.
        separate: Whether the two sides are numbered independently of each other.
    """
    if separate:
        return _first_seen(src.code), _first_seen(dst.code)
    both = _joined([src, dst])
    ranks = _first_seen(np.stack(both, axis=1).reshape(-1))
    return ranks[0::2], ranks[1::2]


def _joined(sides: Iterable[Ids]) -> list[Array]:
    """Returns the codes of several columns by one list of keys."""
    place: dict[int | str, int] = {}
    found = []
    for side in sides:
        moved = np.array([place.setdefault(key, len(place)) for key in side.key], dtype=np.int64)
        found.append(moved[side.code])
    return found


def _first_seen(values: Array) -> Array:
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[first.argsort()] = np.arange(len(first))
    ranks: Array = rank[inverse]
    return ranks
