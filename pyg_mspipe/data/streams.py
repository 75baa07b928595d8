"""Loading of a stream by name or path: published sets, files and the generator."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.files import NamesAsIdsError, read_stream
from pyg_mspipe.data.generator import synthetic
from pyg_mspipe.data.named import JODIE_NAMES, TGB_NAMES, read_jodie, read_tgb
from pyg_mspipe.data.tables import SUFFIXES
from pyg_mspipe.data.validation import Place, check_stream

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_NAMES = (*JODIE_NAMES, *TGB_NAMES, "synthetic")


def load_stream(
    name_or_path: str | Path,
    *,
    root: str | Path = "data",
    columns: Mapping[str, str | Sequence[str]] | None = None,
    sort: bool = False,
    time_scale: float | None = None,
    bipartite: bool | None = None,
    relabel: bool = False,
    check: bool = True,
    **synthetic_options: int,
) -> TemporalData:
    """Returns a stream, checked by `check_stream`.

    A file has the columns `src`, `dst`, `t`, optionally `y` (labels) and either `msg` (a list per event, or a matrix in
    a `.npz` file) or `msg_0`, `msg_1` and so on. Files with other names are mapped::

        load_stream('clicks.parquet', columns={'src': 'user', 'dst': 'item', 't': 'ts', 'msg': ['price', 'count']})

    Dates and timestamps become the integers that stand for them, in the unit that the file stores.

    Args:
        name_or_path: `wikipedia`, `reddit`, `mooc` or `lastfm` (JODIE); `tgbl-wiki`, `tgbn-trade` and the other sets of
            TGB; `synthetic`; or the path of a `.csv`, `.csv.gz`, `.parquet` or `.npz` file.
        root: The folder that published sets are downloaded to.
        columns: For files: the file's column for each field; for `msg`, one column or several.
        sort: Sort by time if needed; events of the same time keep their order.
        time_scale: For files: multiplies the times, which are then rounded. 1000 keeps the milliseconds of times
            in fractional seconds.
        bipartite: For files: sources and destinations are numbered independently, both from 0, so that destinations
            are moved behind the sources (by `max(src) + 1`). For `synthetic`: its argument of this name.
        relabel: For files: number ids that are strings or sparse integers from 0, in the order of their appearance.
        check: If false, return the events as they were read, so that `find_problems` can tell what is wrong with them.
        **synthetic_options: For `synthetic`: its other arguments.

    Raises:
        StreamError: If the name or path is unknown, the source cannot be read, or `check_stream` refuses the stream.

    Example:
        >>> from pyg_mspipe import load_stream
        >>> load_stream("synthetic", num_events=500).num_events
        500
        >>> load_stream("wikipedai")
        Traceback (most recent call last):
        ...
        pyg_mspipe.data.errors.StreamError: no stream is named 'wikipedai'; did you mean 'wikipedia'? known are ...
    """
    name = str(name_or_path)
    is_name = isinstance(name_or_path, str) and name in _NAMES
    file_options = {"columns": columns is not None, "time_scale": time_scale is not None, "relabel": relabel}
    if is_name:
        file_options["bipartite"] = bipartite is not None and name != "synthetic"
        _refuse(name, [option for option, given in file_options.items() if given], "files take")
    if name != "synthetic" or not is_name:
        _refuse(name, list(synthetic_options), "the stream 'synthetic' takes")

    if not is_name:
        path, chosen = _as_path(name_or_path), (columns or {}).get("msg", ())
        read = partial(read_stream, path, columns=columns, time_scale=time_scale, bipartite=bool(bipartite))
        if not check:
            return read(relabel=relabel)[0]
        return _checked(path, read, relabel, sort=sort, msg_names=[chosen] if isinstance(chosen, str) else chosen)
    if name in JODIE_NAMES:
        data = read_jodie(name, Path(root))
    elif name in TGB_NAMES:
        data = read_tgb(name, Path(root))
    else:
        options: dict[str, Any] = {"labels": True} | synthetic_options
        data = synthetic(bipartite=bipartite is not False, **options)
    return check_stream(data, sort=sort) if check else data


def _checked(
    path: Path, read: Callable[..., tuple[TemporalData, Place]], relabel: bool, **options: Any
) -> TemporalData:
    """Returns the stream of a file, checked with ``options``; an error lists all problems of the file."""
    try:
        data, place = read(relabel=relabel)
    except NamesAsIdsError as error:
        # The error also lists the problems that would remain if the ids were numbered.
        behind: tuple[str, ...] = ()
        try:
            _checked(path, read, True, **options)
        except StreamError as others:
            behind = others.problems
        except (TypeError, ValueError):
            pass  # the ids cannot even be compared
        raise StreamError(*error.problems, *behind) from None
    try:
        return check_stream(data, place=place, **options)
    except StreamError as error:
        raise StreamError(*(f"{path}: {problem}" for problem in error.problems)) from None


def _as_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    looks_like_path = isinstance(name_or_path, Path) or path.suffix or os.sep in name_or_path or path.exists()
    if looks_like_path:
        return path
    near = difflib.get_close_matches(str(name_or_path).lower(), _NAMES, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    raise StreamError(
        f"no stream is named '{name_or_path}'; {guess}known are {', '.join(_NAMES)} "
        f"and paths of {', '.join(SUFFIXES)} files"
    )


def _refuse(name: str, options: Sequence[str], taker: str) -> None:
    if options:
        raise StreamError(f"{name}: leave out {', '.join(options)}, which only {taker}")
