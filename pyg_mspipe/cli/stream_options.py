"""Flags that say how to read a stream, the same for every command that reads a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pyg_mspipe.cli.flags import with_flags

_PANEL = "Reading the stream"
_COLUMNS_SHOWN = 10
_TO_SECONDS = {"milliseconds": "1e-3", "microseconds": "1e-6", "nanoseconds": "1e-9"}

Stream = Annotated[
    str,
    typer.Argument(
        help="A name (synthetic, wikipedia, reddit, mooc, lastfm, tgbl-wiki ...) or a .csv, .parquet or .npz file.",
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
    sort: bool,
    time_scale: float | None,
    bipartite: bool,
    relabel: bool,
) -> dict[str, Any]:
    """Returns the arguments of :func:`load_stream` as plain values, fit for a checkpoint."""
    mapping = {"src": src, "dst": dst, "t": time, "msg": msg or None, "y": label}
    columns = {field: column for field, column in mapping.items() if column is not None}
    given = {
        "columns": columns or None,
        "sort": sort or None,
        "time_scale": time_scale,
        "bipartite": bipartite or None,
        "relabel": relabel or None,
    }
    # A run may be resumed from another folder than it was started in.
    where = str(Path(stream).resolve()) if Path(stream).is_file() else stream
    return {"name_or_path": where, "root": str(root.resolve())} | {k: v for k, v in given.items() if v is not None}


def time_note(source: dict[str, Any], first: int, last: int) -> str | None:
    """Returns a note if a file holds times in a unit finer than seconds and --time-scale was not given."""
    from pyg_mspipe.data.summary import guess_time_unit

    unit = guess_time_unit(first, last).removeprefix("epoch ")
    if unit not in _TO_SECONDS or "time_scale" in source or not Path(source["name_or_path"]).is_file():
        return None
    return f"times are in {unit}; --time-scale {_TO_SECONDS[unit]} makes them seconds"


def column_note(source: dict[str, Any]) -> str | None:
    """Returns a note on the columns of a file that are not used; None if all are."""
    from pyg_mspipe.data.files import unused_columns
    from pyg_mspipe.data.tables import text_columns

    path = Path(source["name_or_path"])
    unused = unused_columns(path, source.get("columns")) if path.is_file() else []
    if not unused:
        return None
    shown = ", ".join(map(repr, unused[:_COLUMNS_SHOWN])) + (", ..." if len(unused) > _COLUMNS_SHOWN else "")
    note = f"columns not used: {shown}"
    texts = set(text_columns(path))
    if texts.issuperset(unused):
        return f"{note}; they hold texts, and features must be numbers"
    which = "those that hold numbers" if texts.intersection(unused) else "columns"
    return f"{note}; --msg NAME, once for each, reads {which} as features"


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
