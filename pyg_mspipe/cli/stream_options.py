"""Flags that say how to read a stream, the same for every command that reads a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pyg_mspipe.cli.flags import with_flags
from pyg_mspipe.training.config import ConfigError

_PANEL = "Reading the stream"
_COLUMNS_SHOWN = 10
_TO_SECONDS = {"milliseconds": "1e-3", "microseconds": "1e-6", "nanoseconds": "1e-9"}

Stream = Annotated[
    str,
    typer.Argument(
        help="A name (synthetic, wikipedia, reddit, mooc, lastfm, tgbl-wiki ...) or a .csv, .txt, .tsv (or .gz of "
        "these), .parquet or .npz file, or a .stream folder.",
        show_default=False,
    ),
]
Root = Annotated[Path, typer.Option(help="Folder for downloaded sets.", rich_help_panel=_PANEL)]
Src = Annotated[str | None, typer.Option(help="Column of the sources. (default: src)", rich_help_panel=_PANEL)]
Dst = Annotated[str | None, typer.Option(help="Column of the destinations. (default: dst)", rich_help_panel=_PANEL)]
Time = Annotated[str | None, typer.Option(help="Column of the times. (default: t)", rich_help_panel=_PANEL)]
Msg = Annotated[
    list[str] | None,
    typer.Option(help="Column of the messages, once for each. (default: msg, msg_0 ...)", rich_help_panel=_PANEL),
]
Label = Annotated[str | None, typer.Option(help="Column of the labels. (default: y)", rich_help_panel=_PANEL)]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Of a file of text without a header: the numbers, from 0, of the columns of sources, destinations and "
        "times, as in 0,1,2; --msg and --label are numbers then too.",
        rich_help_panel=_PANEL,
    ),
]
Separator = Annotated[
    str | None,
    typer.Option(
        help="What separates the columns of a file of text: , ; | \\t or a blank for any run of blanks and tabs. "
        "(default: what its first lines show)",
        rich_help_panel=_PANEL,
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        help="The format of times that are texts, as %d-%m-%Y for 21-07-2015, %d/%m/%Y %H:%M and so on.",
        rich_help_panel=_PANEL,
    ),
]
Sort = Annotated[bool, typer.Option("--sort", help="Sort the events by time.", rich_help_panel=_PANEL)]
TimeScale = Annotated[
    float | None, typer.Option(help="Multiply the times, e.g. by 1000 to keep milliseconds.", rich_help_panel=_PANEL)
]
Bipartite = Annotated[
    bool, typer.Option("--bipartite", help="Sources and destinations both count from 0.", rich_help_panel=_PANEL)
]
Relabel = Annotated[bool, typer.Option("--relabel", help="Number string or sparse ids from 0.", rich_help_panel=_PANEL)]


READING: dict[str, tuple[Any, Any]] = {
    "root": (Root, Path("data")),
    "src": (Src, None),
    "dst": (Dst, None),
    "time": (Time, None),
    "msg": (Msg, None),
    "label": (Label, None),
    "columns": (Columns, None),
    "separator": (Separator, None),
    "time_format": (TimeFormat, None),
    "sort": (Sort, False),
    "time_scale": (TimeScale, None),
    "bipartite": (Bipartite, False),
    "relabel": (Relabel, False),
}
"""The flags by name, with their types and defaults."""


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Returns ``command(..., reading)`` with a flag for each way to read a stream instead."""
    return with_flags(command, "reading", READING)


def source_of(
    stream: str,
    *,
    root: Path,
    src: str | None,
    dst: str | None,
    time: str | None,
    msg: list[str] | None,
    label: str | None,
    columns: str | None,
    separator: str | None,
    time_format: str | None,
    sort: bool,
    time_scale: float | None,
    bipartite: bool,
    relabel: bool,
) -> dict[str, Any]:
    """Returns the arguments of :func:`load_stream` as plain values, fit for a checkpoint.

    Raises:
        ConfigError: If the flags of columns do not fit together.
    """
    mapping: dict[str, Any] = {"src": src, "dst": dst, "t": time, "msg": msg or None, "y": label}
    chosen = {field: column for field, column in mapping.items() if column is not None}
    given = {
        "columns": (chosen if columns is None else _by_number(columns, chosen)) or None,
        "separator": "\t" if separator == "\\t" else separator,
        "time_format": time_format,
        "sort": sort or None,
        "time_scale": time_scale,
        "bipartite": bipartite or None,
        "relabel": relabel or None,
    }
    # A run may be resumed from another folder than it was started in.
    path = Path(stream)
    where = str(path.resolve()) if path.is_file() or (path.is_dir() and path.suffix) else stream
    return {"name_or_path": where, "root": str(root.resolve())} | {k: v for k, v in given.items() if v is not None}


def _by_number(columns: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Returns the columns of a file without a header, by number."""
    named = [flag for field, flag in (("src", "--src"), ("dst", "--dst"), ("t", "--time")) if field in chosen]
    if named:
        raise ConfigError(f"--columns and {named[0]} are given; give --columns alone where the file has no header")
    numbers = columns.split(",")
    if len(numbers) != 3 or not all(each.strip().isdecimal() for each in numbers):
        raise ConfigError(f"--columns is {columns!r}; give the columns of sources, destinations and times, as in 0,1,2")
    for each in [*chosen.get("msg", []), *([chosen["y"]] if "y" in chosen else [])]:
        if not each.isdecimal():
            raise ConfigError(
                f"--columns counts columns, and {each!r} is no number; give --msg and --label numbers too"
            )
    more = {
        field: [int(each) for each in column] if field == "msg" else int(column) for field, column in chosen.items()
    }
    return dict(zip(("src", "dst", "t"), map(int, numbers), strict=True)) | more


def _file_of(source: dict[str, Any]) -> Path | None:
    path = Path(source["name_or_path"])
    return path if path.is_file() else None


def unit_of(source: dict[str, Any]) -> str | None:
    """Returns the unit that the dates of a file are counted in; None if its times are numbers, or are scaled."""
    from pyg_mspipe.data.files import time_unit

    path = _file_of(source)
    if path is None or "time_scale" in source:
        return None
    return time_unit(path, *(source.get(name) for name in ("columns", "separator", "time_format")))


def form_note(source: dict[str, Any]) -> str | None:
    """Returns a note on how a file of text is read; None if it is as most are, with commas and a header."""
    from pyg_mspipe.data.columns import has_header
    from pyg_mspipe.data.text_files import is_text, text_form

    path, header = _file_of(source), has_header(source.get("columns"))
    if path is None or not (is_text(path) or "separator" in source):
        return None
    form = text_form(path, source.get("separator"), header)
    if form.separator == "," and header and not form.comments:
        return None
    note = f"{path.name} is read as {form}"
    if not header and form.rows[0] == form.numbers:
        note += f"; its first line, {','.join(form.numbers)}, is an event: if it is a header, give --src 0 and so on"
    return note


def time_note(source: dict[str, Any], first: int, last: int) -> str | None:
    """Returns a note if a file holds times in a unit finer than seconds and --time-scale was not given."""
    from pyg_mspipe.data.summary import guess_time_unit

    unit = guess_time_unit(first, last).removeprefix("epoch ")
    if unit not in _TO_SECONDS or "time_scale" in source or _file_of(source) is None:
        return None
    return f"times are in {unit}; --time-scale {_TO_SECONDS[unit]} makes them seconds"


def column_note(source: dict[str, Any]) -> str | None:
    """Returns a note on the columns of a file that are not used; None if all are."""
    from pyg_mspipe.data.columns import has_header, unused_columns
    from pyg_mspipe.data.tables import text_columns

    path, columns, separator = _file_of(source), source.get("columns"), source.get("separator")
    unused = [] if path is None else unused_columns(path, columns, separator)
    if path is None or not unused:
        return None
    shown = ", ".join(map(repr, unused[:_COLUMNS_SHOWN])) + (", ..." if len(unused) > _COLUMNS_SHOWN else "")
    note = f"columns not used: {shown}"
    texts = set(text_columns(path, separator, has_header(columns)))
    if texts.issuperset(unused):
        return f"{note}; they hold texts, and features must be numbers"
    which = "those that hold numbers" if texts.intersection(unused) else "columns"
    name = "NAME" if has_header(columns) else "NUMBER"
    return f"{note}; --msg {name}, once for each, reads {which} as features"


def flags_of(reading: dict[str, Any]) -> list[str]:
    """Returns the arguments to type for the values in ``reading``."""
    words = []
    for name, (_, default) in READING.items():
        flag, value = f"--{name.replace('_', '-')}", reading[name]
        if value is True:
            words.append(flag)
        elif value not in (default, False):
            for each in value if isinstance(value, list) else [value]:
                words += [flag, str(each)]
    return words
