"""Files as nobody wrote them: mutated at random, and read a second time by a plain reader."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

_SNIPPETS = [
    *(b"", b"0", b"-1", b"007", b"7.0", b"1e3", b"9007199254740993", b"9223372036854775807", b"9223372036854775808"),
    *(
        b"NaN",
        b"inf",
        b"NA",
        b"null",
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b" ",
        b"\t",
    ),
    *(b"2024-01-01", b"2024-01-01 00:00:01", b"true", b"a", b"src", b"t", b"x" * 5000, b"\xef\xbb\xbf", b"1.5", b"+7"),
]


def mutate(content: bytes, draws) -> bytes:
    """Returns the bytes with a few of them changed, removed, doubled, or replaced by what may mean something."""
    data = bytearray(content)
    for _ in range(draws.choice([1, 1, 1, 2, 4])):
        place = draws.randrange(len(data) + 1)
        what = draws.randrange(6)
        if what == 0 and data:
            data[place % len(data)] = draws.randrange(256)
        elif what == 1:
            data[place:place] = draws.choice(_SNIPPETS)
        elif what == 2:
            data[place : place + draws.choice([1, 2, 8, 64])] = draws.choice(_SNIPPETS)
        elif what == 3:
            del data[place : place + draws.choice([1, 4, 40])]
        elif what == 4:
            data[place:place] = data[place : place + draws.choice([1, 10, 60])]
        elif draws.random() < 0.3:
            del data[place:]
    return bytes(data)


def cell(draws, kind: str) -> str:
    """Returns a value for a column of ids, times or features."""
    odd = [
        "",
        "NA",
        "nan",
        "x",
        "7",
        "007",
        "7.0",
        "1e3",
        " 7",
        "-1",
        "9007199254740993",
        "9223372036854775808",
        "a,b",
        '"',
    ]
    if draws.random() < 0.03:
        return draws.choice(odd)
    if kind == "id":
        return str(
            draws.choice([draws.randrange(9), draws.randrange(2**64), f"u{draws.randrange(5)}", draws.randrange(9)])
        )
    return str(draws.randrange(100)) if kind == "t" else f"{draws.uniform(-5, 5):.3f}"


def csv_text(draws) -> bytes:
    """Returns the text of a CSV file of a few events, not all of which can be used."""
    names = ["src", "dst", "t", *draws.choice([[], ["msg"], ["msg_0", "msg_1"], ["y"], ["t"]])]
    kind_of_ids = draws.choice(["mixed", "small", "large", "text"])

    def value(name):
        if name not in ("src", "dst") or kind_of_ids == "mixed":
            return cell(draws, "id" if name in ("src", "dst") else name[0] if name == "t" else "msg")
        most = {"small": 9, "large": 2**64, "text": 5}[kind_of_ids]
        return f"{'u' if kind_of_ids == 'text' else ''}{draws.randrange(most)}"

    rows = [[value(name) for name in names] for _ in range(draws.randrange(1, 12))]
    if draws.random() < 0.7 and "t" in names:
        place = names.index("t")
        for row, t in zip(rows, sorted(draws.randrange(100) for _ in rows), strict=True):
            row[place] = str(t)
    text = io.StringIO()
    csv.writer(text, lineterminator=draws.choice(["\n", "\n", "\r\n"])).writerows([names, *rows])
    return text.getvalue().encode()


def write_table(path: Path, draws) -> None:
    """Writes a Parquet or ``.npz`` file of a few events with columns of any type."""
    size = draws.randrange(1, 8)

    def column(name):
        numbers = [draws.randrange(9) for _ in range(size)]
        kinds = [
            np.array(numbers),
            np.array(sorted(numbers), dtype=draws.choice([np.int8, np.int32, np.uint64, np.float32, np.float64])),
            np.array(numbers, dtype=np.uint64) + np.uint64(2**63),
            np.array([f"u{n}" for n in numbers]),
            np.array([str(n) for n in numbers]),
            np.array(numbers) + 0.5,
            np.array(numbers, dtype=bool),
            np.array([numbers, numbers]).T,
            np.array(numbers, dtype="datetime64[s]"),
            np.array(float(numbers[0])),
            np.array(numbers[1:]),
        ]
        return kinds[0 if draws.random() < 0.5 else 1 if draws.random() < 0.5 else draws.randrange(len(kinds))]

    columns = {name: column(name) for name in ("src", "dst", "t", *draws.choice([[], ["msg"], ["y"]]))}
    if "t" in columns and columns["t"].ndim == 1 and draws.random() < 0.7:
        columns["t"] = np.sort(columns["t"])
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)
        return
    length = min(len(each) for each in columns.values() if each.ndim)
    arrays = {}
    for name, each in columns.items():
        rows = each[:length] if each.ndim else np.full(length, each)
        arrays[name] = pa.array(list(rows) if rows.ndim > 1 else rows)
    parquet.write_table(pa.table(arrays), path)


_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")


def plain(path: Path):
    """Returns the events of a CSV file by Python's own reader and exact integers: ids as they are, times as fractions.

    Returns nothing where it is not a file of events that a plain reader understands.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        rows = [row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)]
    except (UnicodeDecodeError, csv.Error):
        return None
    rows = [row for row in rows if row and (len(row) > 1 or row[0].strip())]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return None
    names = rows[0]
    if any(names.count(name) != 1 for name in ("src", "dst", "t")):
        return None
    places = [names.index(name) for name in ("src", "dst", "t")]
    try:
        return [(row[places[0]], row[places[1]], Decimal(row[places[2]].strip())) for row in rows[1:]]
    except InvalidOperation:
        return None


def plain_rows(content: bytes, mark: str):
    """Returns the events of a text without header, quotes and comments by splitting its lines; nothing for others."""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip(" \t")]
    rows = [re.split(r"[ \t]+", line.strip(" \t")) if mark == " " else line.split(mark) for line in lines]
    if '"' in text or re.search(r"(?m)^[ \t]*[#%]", text) or len({len(row) for row in rows}) != 1 or len(rows[0]) < 3:
        return None
    try:
        return [(row[0], row[1], Decimal(row[2].strip())) for row in rows]
    except InvalidOperation:
        return None


def key(text: str):
    """Returns an id as a number where it is written as one."""
    whole = _WHOLE.fullmatch(text)
    return text if whole is None else int(whole[1])


def wrong(path: Path, data, *, relabel: bool, sort: bool) -> str | None:
    """Returns what differs between a stream and its file as a plain reader has it; nothing where they agree."""
    return unlike(plain(path), data, relabel=relabel, sort=sort)


def unlike(events, data, *, relabel: bool, sort: bool) -> str | None:
    """Returns what differs between a stream and the events of a plain reader; nothing where they agree."""
    if events is None:
        return None
    found = list(zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), strict=True))
    if len(found) != len(events):
        return f"{len(found)} events of {len(events)}"
    if relabel:
        number: dict = {}
        expected = []
        for src, dst, t in events:
            expected.append((*(number.setdefault(key(each), len(number)) for each in (src, dst)), t))
    else:
        try:
            expected = [(Decimal(src.strip()), Decimal(dst.strip()), t) for src, dst, t in events]
        except InvalidOperation:
            return "ids are no numbers"
    if sort:
        expected.sort(key=lambda event: event[2])
    for own, other in zip(found, expected, strict=True):
        if not all(map(alike, own, other)):
            return f"{own} for {other}"
    return None


def alike(found: int, expected) -> bool:
    """Whether a number is the one in a file, which with a fraction has the digits that a double keeps."""
    return found == expected or (expected % 1 != 0 and found == float(expected))
