"""Conversion of files of any size into a stream folder, with memory that does not grow with them."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pyg_mspipe.data.atomic_write import atomic_write, sync_folder
from pyg_mspipe.data.blocks import OtherKindError, Reader, input_files
from pyg_mspipe.data.column_file import Column, ColumnWriter, write_header
from pyg_mspipe.data.columns import Columns
from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.event_writer import EventWriter
from pyg_mspipe.data.history_files import Ends, fingerprints, write_history
from pyg_mspipe.data.regrouped import sort_by_time
from pyg_mspipe.data.stream_folder import FORMAT, MANIFEST, PART, SUFFIX, VERSION, StreamFolder

T = TypeVar("T")
_MOST_ROWS, _LEAST_ROWS = 1 << 19, 64
_NODE_BYTES = 18
"""Memory that what is counted of a node takes."""

_LABELS_SHOWN, _MOST_LABELS = 20, 1000


def convert_stream(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    memory: int = 2 << 30,
    overwrite: bool = False,
    half: bool = False,
    columns: Columns | None = None,
    separator: str | None = None,
    sort: bool = False,
    time_format: str | None = None,
    time_scale: float | None = None,
    bipartite: bool = False,
    relabel: bool = False,
) -> StreamFolder:
    """Returns the stream folder that the events of files are written to, opened.

    The folder is written beside its place and renamed when it is whole. Columns are those that `load_stream` would give
    of one file with the events of all, and so is the fingerprint of a run.

    Args:
        inputs: Files that `load_stream` can read, patterns such as ``events/*.parquet``, or folders of Parquet files;
            events come in this order.
        out: The folder, ``NAME.stream``.
        memory: Bytes of memory to use, beside what Python and its packages take.
        overwrite: Whether a folder that is there is replaced.
        half: Whether messages are written as float16, rounded.
        columns: See `load_stream`, as are all that follow.
        separator: See there.
        sort: See there.
        time_format: See there.
        time_scale: See there.
        bipartite: See there.
        relabel: See there. The ids are kept in ``ids.parquet``, with ``bipartite`` in ``source_ids.parquet`` and
            ``destination_ids.parquet``, in the order of their numbers.

    Raises:
        StreamError: If a file cannot be used, or the folder is there.
    """
    out = Path(out)
    if out.suffix != SUFFIX:
        raise StreamError(f"{out}: the name of a stream folder ends in {SUFFIX}; give {out.name}{SUFFIX}")
    if out.exists() and not overwrite:
        raise StreamError(f"{out} exists; remove it, or give another name")
    if out.exists() and not (out / MANIFEST).exists():
        raise StreamError(f"{out} is no stream folder, and is not overwritten; give another name")
    reading: dict[str, Any] = {"columns": columns, "separator": separator, "sort": sort, "time_format": time_format}
    reading |= {"time_scale": time_scale, "bipartite": bipartite, "relabel": relabel}
    files = input_files(inputs)
    with _part_folder(out) as folder:
        writer = _read_all(files, reading, memory, lambda: EventWriter(folder, reading, memory // 2, half=half))
        found, offset = writer.close()
        rows = _rows(memory)
        if not writer.ordered:
            bytes_each = 2 * sum(column.row_bytes for column in found.values()) + 32
            found = sort_by_time(found, writer.sample, max(memory // bytes_each, 2), rows)
        if offset:
            found["dst"] = _moved(found["dst"], offset, rows)
        ids = {name: path for name, (path, _) in writer.maps.items()}
        _finish(folder, found, ids, reading | {"offset": offset}, memory, "")
        if out.exists():
            old = out.with_name(f"{out.name}{PART}{uuid.uuid4().hex[:8]}")
            out.rename(old)
            folder.rename(out)
            shutil.rmtree(old)
        else:
            folder.rename(out)
        sync_folder(out.parent)
    return StreamFolder.open(out)


def append_stream(out: str | Path, inputs: Sequence[str | Path], *, memory: int = 2 << 30) -> StreamFolder:
    """Returns a stream folder, opened anew, behind whose events later ones were written.

    Columns grow where they are; the history is written anew, beside. Until the manifest is replaced, which is last, the
    folder is the stream that it was. Files are read as at the conversion.

    Args:
        out: The folder.
        inputs: As for :func:`convert_stream`.
        memory: As there.

    Raises:
        StreamError: If a file cannot be used, or its events come before the folder's last.
    """
    before = StreamFolder.open(Path(out))
    number = int(before.manifest["appended"]) + 1
    mark = f".{number}"
    folder, reading = before.path, before.manifest["reading"]
    half = "msg" in before.columns and before.columns["msg"].dtype == np.float16
    files = input_files(inputs)
    sorting = dict(reading) | {"sort": False}

    def make() -> EventWriter:
        return EventWriter(folder, sorting, memory // 2, half=half, before=before, mark=mark)

    found, offset = (writer := _read_all(files, sorting, memory, make)).close()
    if offset:
        _move_behind(found["dst"], before.num_events, offset, _rows(memory))
    for column in found.values():
        _sync(column.path)
    ids = {name: path for name, (path, _) in writer.maps.items()}
    _finish(folder, found, ids, reading, memory, mark)
    after = StreamFolder.open(folder)
    for column in found.values():  # for readers other than this package
        with column.path.open("r+b") as file:
            write_header(column, file.fileno())
    kept = {column.path.name for column in after.columns.values()} | {path.name for path in ids.values()} | {MANIFEST}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    return after


def _rows(memory: int) -> int:
    return min(max(memory >> 12, _LEAST_ROWS), _MOST_ROWS)


def _read_all(
    files: Sequence[Path], reading: Mapping[str, Any], memory: int, make: Callable[[], EventWriter]
) -> EventWriter:
    texts = ["src", "dst"] if reading["relabel"] else []
    texts += ["t"] if reading["time_format"] else []
    reader = Reader(reading["columns"], reading["separator"], texts, _rows(memory))
    while True:
        writer = make()
        try:
            for path in files:
                for table, names in _ahead(reader.blocks(path)):
                    writer.add(path, table, names)
        except OtherKindError:
            writer.discard()
            continue  # the reader knows better now
        return writer


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields items, of which the next is made meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def _moved(column: Column, offset: int, rows: int) -> Column:
    writer = ColumnWriter(column.path.with_suffix(".moved"), column.dtype)
    for block in column.blocks(rows):
        writer.append(block + offset)
    writer.close()
    writer.path.replace(column.path)
    return column


def _move_behind(column: Column, first: int, offset: int, rows: int) -> None:
    for start in range(first, column.shape[0], rows):
        block = column.read(start, min(start + rows, column.shape[0])) + offset
        writer = ColumnWriter.at(column, start)
        writer.append(block)
        writer.close(header=False, sync=False)


def _finish(
    folder: Path,
    found: Mapping[str, Column],
    ids: Mapping[str, Path],
    reading: Mapping[str, Any],
    memory: int,
    mark: str,
) -> None:
    """Writes what follows from the columns, and last the manifest."""
    rows = _rows(memory)
    ends = Ends(found["src"], found["dst"], found["t"])
    num_nodes = ends.count(rows, memory)
    left = max(memory - _NODE_BYTES * num_nodes, memory // 4)
    with ThreadPoolExecutor(1) as pool:
        digests = pool.submit(fingerprints, found, rows // 8 or 1)
        history = write_history(folder, ends, left, rows, mark)
        digest = digests.result()
    every = {**found, **history}
    for path in ids.values():
        _sync(path)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "num_events": found["t"].shape[0],
        "num_nodes": num_nodes,
        "fingerprint": digest,
        "columns": {
            name: {"file": each.path.name, "dtype": each.dtype.str, "shape": each.shape, "bytes": each.nbytes}
            for name, each in every.items()
        },
        "ids": {name: {"file": path.name, "bytes": path.stat().st_size} for name, path in ids.items()},
        "summary": ends.summary() | {"label_counts": _label_counts(found, rows)},
        "reading": dict(reading),
        "appended": int(mark[1:] or 0),
    }
    with atomic_write(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def _label_counts(found: Mapping[str, Column], rows: int) -> list[tuple[float, int]]:
    """Returns the most frequent labels with their counts; none where they are no classes."""
    if "y" not in found or len(found["y"].shape) > 1:
        return []
    counts: Counter[float] = Counter()
    for block in found["y"].blocks(rows):
        values, times = np.unique(block, return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        if len(counts) > _MOST_LABELS:
            return []
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_LABELS_SHOWN]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _part_folder(out: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``out``, and removes what conversions that were cut off have left there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in out.parent.glob(f"{escape(out.name)}{PART}*"):
        if _in_use(old):
            raise StreamError(f"another process converts to {out}; wait for it, or give another name")
        shutil.rmtree(old)
    folder = out.with_name(f"{out.name}{PART}{uuid.uuid4().hex[:8]}")
    folder.mkdir()
    lock = _lock(folder)
    try:
        yield folder
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """Returns a descriptor that holds a folder as long as it is open; none if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _in_use(folder: Path) -> bool:
    if os.name == "nt":
        return False
    lock = _lock(folder)
    if lock is not None:
        os.close(lock)
    return lock is None
