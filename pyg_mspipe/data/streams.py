"""Loading of a stream by name or path: published sets, files and the generator."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_mspipe.data.columns import Columns
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.files import read_stream
from pyg_mspipe.data.generator import synthetic_fields
from pyg_mspipe.data.named import JODIE_NAMES, TGB_NAMES, read_jodie, read_tgb
from pyg_mspipe.data.stream_folder import StreamFolder, is_folder
from pyg_mspipe.data.tables import SUFFIXES
from pyg_mspipe.data.temporal_data import temporal_data
from pyg_mspipe.data.validation import Fields, check_fields

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_NAMES = (*JODIE_NAMES, *TGB_NAMES, "synthetic")


def load_stream(
    name_or_path: str | Path,
    *,
    root: str | Path = "data",
    columns: Columns | None = None,
    separator: str | None = None,
    sort: bool = False,
    time_format: str | None = None,
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

    A file of text without a header has its columns by number::

        load_stream('CollegeMsg.txt.gz', columns={'src': 0, 'dst': 1, 't': 2})

    Its columns may be separated by commas, tabs, semicolons, bars or blanks, and lines that begin with ``#`` or ``%``
    are comments. Dates and timestamps become the integers that stand for them, in the unit that the file stores.

    Args:
        name_or_path: `wikipedia`, `reddit`, `mooc` or `lastfm` (JODIE); `tgbl-wiki`, `tgbn-trade` and the other sets of
            TGB; `synthetic`; or the path of a `.csv`, `.txt`, `.tsv` (or one of these with `.gz`), `.parquet` or `.npz`
            file; or that of a stream folder, which `convert_stream` makes: its columns are mapped, not read.
        root: The folder that published sets are downloaded to.
        columns: For files: the file's column for each field, by name, or by number from 0 in a file of text that has no
            header; for `msg`, one column or several.
        separator: For files of text: the character between the columns, a blank for any run of blanks and tabs. By
            default it is the one that separates the file's first lines into three columns or more.
        sort: Sort by time if needed; events of the same time keep their order.
        time_format: For files whose times are texts: their format, as in Python's `strptime`, such as `%d-%m-%Y`. Dates
            become days since 1970 in UTC; with a time of day, seconds; with `%f`, microseconds.
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
    fields = load_fields(
        name_or_path,
        root=root,
        columns=columns,
        separator=separator,
        sort=sort,
        time_format=time_format,
        time_scale=time_scale,
        bipartite=bipartite,
        relabel=relabel,
        check=check,
        **synthetic_options,
    )
    return temporal_data(fields)


def load_fields(
    name_or_path: str | Path,
    *,
    root: str | Path = "data",
    columns: Columns | None = None,
    separator: str | None = None,
    sort: bool = False,
    time_format: str | None = None,
    time_scale: float | None = None,
    bipartite: bool | None = None,
    relabel: bool = False,
    check: bool = True,
    **synthetic_options: int,
) -> Fields:
    """Returns the fields of the stream that `load_stream` gives for the same arguments, without loading PyG.

    Raises:
        StreamError: As `load_stream` does.
    """
    name = str(name_or_path)
    is_name = isinstance(name_or_path, str) and name in _NAMES
    given: dict[str, Any] = {
        "columns": columns,
        "separator": separator,
        "time_format": time_format,
        "time_scale": time_scale,
    }
    file_options = {option: value is not None for option, value in given.items()} | {"relabel": relabel}
    if is_name:
        file_options["bipartite"] = bipartite is not None and name != "synthetic"
        _refuse(name, [option for option, given in file_options.items() if given], "files take")
    if name != "synthetic" or not is_name:
        _refuse(name, list(synthetic_options), "the stream 'synthetic' takes")

    if not is_name:
        path = _as_path(name_or_path)
        if is_folder(path):
            _refuse(
                name,
                [option for option, given in (file_options | {"bipartite": bool(bipartite)}).items() if given],
                "files take",
            )
            return StreamFolder.open(path).fields
        options = given | {"bipartite": bool(bipartite), "relabel": relabel}
        return _checked(path, {"sort": sort} | options) if check else read_stream(path, **options)[0]
    if name in JODIE_NAMES:
        fields = read_jodie(name, Path(root))
    elif name in TGB_NAMES:
        fields = read_tgb(name, Path(root))
    else:
        made: dict[str, Any] = {"labels": True} | synthetic_options
        fields = synthetic_fields(bipartite=bipartite is not False, **made)
    return check_fields(fields, sort=sort) if check else fields


def _checked(path: Path, options: dict[str, Any]) -> Fields:
    """Returns the events of a file, read with arguments of `load_stream` and checked.

    Raises:
        StreamError: With all problems of the file, those behind others too, and the arguments that mend all of them.
    """
    problems: dict[str, None] = {}
    mends: dict[str, Any] = {}
    while True:
        try:
            fields = _read_and_check(path, options | mends)
        except StreamError as error:
            problems |= dict.fromkeys(error.problems)
            more = {name: value for each in error.problems for name, value in each.mends.items() if name not in mends}
            if not more:
                raise StreamError(*problems) from None
            mends |= more  # what is wrong behind these problems shows once they are mended
            continue
        if problems:
            raise StreamError(*problems, mends=mends)
        return fields


def _read_and_check(path: Path, options: dict[str, Any]) -> Fields:
    chosen = (options["columns"] or {}).get("msg", ())
    msg_names = [str(each) for each in ([chosen] if isinstance(chosen, str | int) else chosen)]
    fields, place = read_stream(path, **{name: value for name, value in options.items() if name != "sort"})
    try:
        return check_fields(fields, place=place, sort=options["sort"], msg_names=msg_names)
    except StreamError as error:
        raise StreamError(*(Problem(f"{path}: {each}", **each.mends) for each in error.problems)) from None


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
