"""Plain readers of what the package reads: Python's csv module, exact integers and fractions, nothing clever."""

from __future__ import annotations

import csv
import gzip
import io
import re
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from pyarrow import parquet

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")


def columns_of(path: Path) -> dict[str, list] | None:
    """Returns the columns of a file as lists; nothing where a plain reader does not understand it."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            used = [
                name for name in ("src", "dst", "t", "msg") if name in arrays.files
            ]  # damage elsewhere does no harm
            return {name: arrays[name].tolist() for name in used if arrays[name].dtype.kind in "iufU"}
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return {name: table[name].to_pylist() for name in table.column_names}
    rows = rows_of(path)
    if rows is None or any(rows[0].count(name) != 1 for name in rows[0]):
        return None
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}


def rows_of(path: Path) -> list[list[str]] | None:
    """Returns the rows of a CSV file, its header first; nothing where they are not all of one length."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)]
    except (UnicodeDecodeError, csv.Error):
        return None
    rows = [row for row in rows if row and (len(row) > 1 or row[0].strip())]
    return rows if rows and all(len(row) == len(rows[0]) for row in rows) else None


def columns_without_header(content: bytes, mark: str) -> dict[str, list] | None:
    """Returns the first columns of a text without header, quotes and comments, by splitting its lines: src, dst, t.

    Returns nothing for other texts.
    """
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip(" \t")]
    rows = [re.split(r"[ \t]+", line.strip(" \t")) if mark == " " else line.split(mark) for line in lines]
    if '"' in text or re.search(r"(?m)^[ \t]*[#%]", text) or len({len(row) for row in rows}) != 1 or len(rows[0]) < 3:
        return None
    return {name: [row[place] for row in rows] for place, name in enumerate(("src", "dst", "t"))}


def number(value) -> Decimal | None:
    """Returns an int, a float or a text as an exact number; nothing where it is none."""
    try:
        exact = Decimal(value.strip() if isinstance(value, str) else value)
    except (InvalidOperation, TypeError):
        return None
    return exact if exact.is_finite() else None


def key(value):
    """Returns an id as a number where it is one, or is written as one."""
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value)
        return value if whole is None else int(whole[1])
    return int(value) if isinstance(value, int | float) and value == int(value) else value


def numbered(src: list, dst: list, *, bipartite: bool = False) -> tuple[list[int], list[int]]:
    """Returns ids as numbers from 0 in the order of their appearance, those of destinations behind where bipartite."""
    first: dict = {}
    second: dict = {} if bipartite else first
    both = []
    for a, b in zip(src, dst, strict=True):
        both.append((first.setdefault(key(a), len(first)), second.setdefault(key(b), len(second))))
    offset = len(first) if bipartite else 0
    return [a for a, _ in both], [b + offset for _, b in both]


def wrong(path: Path, data, *, relabel: bool, sort: bool) -> str | None:
    """Returns what differs between a stream and its file as a plain reader has it; nothing where they agree."""
    return unlike(columns_of(path), data, relabel=relabel, sort=sort)


def unlike(columns: dict[str, list] | None, data, *, relabel: bool, sort: bool) -> str | None:
    """Returns what differs between a stream and the columns of a plain reader; nothing where they agree."""
    if columns is None or not {"src", "dst", "t"} <= columns.keys():
        return None
    t = list(map(number, columns["t"]))
    if None in t or any(isinstance(value, date) for values in columns.values() for value in values):
        return None
    if relabel:
        src, dst = numbered(columns["src"], columns["dst"])
    else:
        src, dst = (list(map(number, columns[name])) for name in ("src", "dst"))
        if None in src or None in dst:
            return "ids are no numbers"
    expected = {"src": src, "dst": dst, "t": t}
    names = ["msg"] if "msg" in columns else [name for name in ("msg_0", "msg_1") if name in columns]
    if names and len(t):
        rows = np.stack([np.array(columns[name], dtype=np.float64).reshape(len(t), -1) for name in names], axis=1)
        expected["msg"] = rows.reshape(len(t), -1).astype(np.float32).tolist()
    order = sorted(range(len(t)), key=t.__getitem__) if sort else range(len(t))
    for name, values in expected.items():
        found = data[name].tolist()
        if len(found) != len(values):
            return f"{len(found)} entries of {name} for {len(values)}"
        for own, place in zip(found, order, strict=True):
            if not alike(own, values[place]):
                return f"{name} {own} for {values[place]}"
    return None


def alike(found, expected) -> bool:
    """Whether a value is the one in a file, which with a fraction has the digits that a double keeps."""
    if isinstance(expected, Decimal) and expected % 1 != 0:
        return found == float(expected)
    return found == expected
