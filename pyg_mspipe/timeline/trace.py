"""The timeline of a pass as a Chrome trace: a row for each stage, an arrow from each commit to the fetch that saw it.

The file is a JSON object of the Trace Event Format, which https://ui.perfetto.dev and chrome://tracing open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from pyg_mspipe.data.atomic_write import atomic_write, refuse_devices
from pyg_mspipe.pipeline.record import STAGES, BatchRecord, StageName

DEFAULT_LIMIT = 4096
"""How many batches a trace has at most by default, which takes about 5 MB."""

_FORMAT = 1
_PROCESS = 1
_ROWS: dict[StageName, int] = {stage: row for row, stage in enumerate(STAGES, start=1)}
_STAGE, _VERSION, _ROWS_EXIST = "stage", "version", "rows"

_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | int | float | bool | None"
_Event: TypeAlias = "dict[str, _Json]"


class TraceWriter:
    """Writes the trace of one pass while it goes on, in memory that does not grow with its length.

    The file appears as a whole when the ``with`` block ends. It appears also when the block ends with an error, since a
    pass that failed is worth a look.

    Args:
        path: The file to write.
        title: What the trace shows; viewers give this name to its group of rows.
        limit: How many batches are written at most, from the first on; None for all. The title tells if some are
            missing.

    Raises:
        OSError: If the file cannot be written; ``path`` is then what it was before.
    """

    def __init__(self, path: Path, title: str = "", *, limit: int | None = DEFAULT_LIMIT) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit}; give at least 1, or None for all batches")
        self._title = title
        self._limit = math.inf if limit is None else limit
        self._whole = atomic_write(path)
        self._added = self._written = self._arrow = 0
        self._last = -1
        self._seen = 0
        self._commits: dict[int, tuple[int, int]] = {}
        self._damage: OSError | None = None

    def __enter__(self) -> TraceWriter:
        """Opens the file."""
        self._file = self._whole.__enter__()
        self._file.write(b'{"displayTimeUnit": "ms", "traceEvents": [')
        head = [event for stage, row in _ROWS.items() for event in _row_names(stage, row)]
        self._file.write(_joined(head))
        return self

    def add(self, record: BatchRecord) -> None:
        """Adds a batch; stages that the batch has not finished are left out.

        Args:
            record: The record of a batch that the pipeline has finished or given up. Batches come in the order of the
                pass.
        """
        if record.index <= self._last:
            raise ValueError(
                f"batch {record.index} comes after batch {self._last}; a trace has the batches of one pass, in order"
            )
        self._last = record.index
        self._added += 1
        if self._written >= self._limit:
            return
        self._written += 1
        text = _joined(self._events(record))
        try:
            self._file.write(b"," + text if text else b"")
        except OSError as error:
            self._damage = error
            raise

    def __exit__(self, *error: object) -> None:
        """Completes the file and puts it in its place."""
        with ExitStack() as stack:
            stack.push(self._whole)
            if self._damage is not None:
                raise self._damage
            part = f"first {self._written:,} of {self._added:,} batches" if self._written < self._added else ""
            title = ", ".join(text for text in (self._title, part) if text) or "pipeline"
            name: _Event = {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": title}}
            about: _Event = {"mspipe_timeline": _FORMAT, "title": title, "batches": self._added}
            self._file.write(b"," + _joined([name]) + f'\n], "otherData": {json.dumps(about)}}}\n'.encode())

    def _events(self, record: BatchRecord) -> Iterator[_Event]:
        args: _Event = {
            "index": record.index,
            "bound": record.bound,
            "fetched": record.fetched,
            "staleness": record.staleness,
        }
        name = f"batch {record.index}"
        spans = {stage: _span(record, stage) for stage in STAGES if stage in record.begin and stage in record.finish}
        for stage, (begin, finish) in spans.items():
            yield _event("X", _STAGE, name, stage, begin) | {"dur": (finish - begin) / 8, "args": args}
        if record.rows_at is not None:
            mark = _event("i", _ROWS_EXIST, f"rows of {name}", "train", _ticks(record.rows_at))
            yield mark | {"s": "t", "args": args}
        if "fetch" in spans:
            yield from self._arrows(record, spans["fetch"])
        if "update" in spans:
            self._commits[record.index] = spans["update"]

    def _arrows(self, record: BatchRecord, fetch: tuple[int, int]) -> Iterator[_Event]:
        for commit in drawn_commits(self._seen, record.fetched):
            if commit not in self._commits:
                continue
            begin, finish = self._commits[commit]
            # Perfetto ties an arrow's end to the slice that is open at its time; a slice is no longer open at its end.
            arrives = min(max(fetch[0], finish - 1), max(fetch[0], fetch[1] - 1))
            leaves = min(max(begin, finish - 1), arrives)
            if leaves < begin:
                continue
            self._arrow += 1
            both: _Event = {"id": self._arrow}
            yield _event("s", _VERSION, "seen by", "update", leaves) | both
            yield _event("f", _VERSION, "seen by", "fetch", arrives) | both | {"bp": "e"}
        self._seen = max(self._seen, record.fetched)
        for commit in [commit for commit in self._commits if commit < self._seen - 1]:
            del self._commits[commit]


def drawn_commits(seen: int, fetched: int) -> range:
    """Returns the commits from which an arrow leads to a fetch: those that no fetch before it saw.

    If there are none, it is the last commit that the fetch saw.

    Args:
        seen: How many commits the fetches before this one saw.
        fetched: How many commits this fetch saw, its version.
    """
    return range(max(0, min(seen, fetched - 1)), fetched)


def write_trace(path: Path, records: Iterable[BatchRecord], *, title: str = "") -> None:
    """Writes a pass as a Chrome trace: all of it, or nothing.

    Args:
        path: The file to write.
        records: The records of the batches of one pass, in order. Stages that a batch has not finished are left out.
        title: What the trace shows.

    Raises:
        OSError: If the file cannot be written; ``path`` is then what it was before.
    """
    with TraceWriter(path, title, limit=None) as writer:
        for record in records:
            writer.add(record)


def read_trace(path: Path | str) -> list[BatchRecord]:
    """Returns the records of the batches in a trace, in order, with times to an eighth of a microsecond.

    Args:
        path: A trace that :class:`TraceWriter` wrote.

    Raises:
        ValueError: If the file is not such a trace.
        OSError: If the file cannot be read.
    """
    records: dict[int, BatchRecord] = {}
    stages = {row: stage for stage, row in _ROWS.items()}
    events = _content(path)["traceEvents"]
    assert isinstance(events, list)
    for number, event in enumerate(events):
        if not isinstance(event, dict) or event.get("cat") not in (_STAGE, _ROWS_EXIST):
            continue
        where = f"{path}: event {number}"
        args = event.get("args")
        if not isinstance(args, dict):
            raise ValueError(f"{where}: args is not an object; {_MEND}")
        index = _whole_number(args, "index", where)
        record = records.setdefault(index, BatchRecord(index))
        record.bound = _whole_number(args, "bound", where)
        record.fetched = _whole_number(args, "fetched", where)
        record.staleness = _whole_number(args, "staleness", where)
        begin = _time(event, "ts", where)
        if event["cat"] == _ROWS_EXIST:
            record.rows_at = begin / 1e6
            continue
        stage = stages.get(_whole_number(event, "tid", where))
        if stage is None or stage in record.begin:
            why = "a row of no stage" if stage is None else f"batch {record.index} has its stage {stage} twice"
            raise ValueError(f"{where}: {why}; {_MEND}")
        record.begin[stage] = begin / 1e6
        record.finish[stage] = (begin + _time(event, "dur", where)) / 1e6
    if not records:
        raise ValueError(f"{path}: the trace has no batches; record a run that trains some")
    return [records[index] for index in sorted(records)]


def read_title(path: Path | str) -> str:
    """Returns the title of a trace that :class:`TraceWriter` wrote; it tells if only the first batches were written.

    Raises:
        ValueError: If the file is not such a trace.
        OSError: If the file cannot be read.
    """
    about = _content(path)["otherData"]
    assert isinstance(about, dict)
    return str(about.get("title", ""))


_MEND = "give a trace as --timeline wrote it"


def _content(path: Path | str) -> _Event:
    refuse_devices(Path(path))
    with Path(path).open("rb") as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON ({error}); {_MEND}") from error
    about = content.get("otherData") if isinstance(content, dict) else None
    found = about.get("mspipe_timeline") if isinstance(about, dict) else None
    if found is None or not isinstance(content.get("traceEvents"), list):
        raise ValueError(f"{path}: JSON, but not the timeline of a pipeline; {_MEND}")
    if found != _FORMAT:
        raise ValueError(f"{path}: timeline format {found}, this version reads {_FORMAT}; record it again")
    return dict(content)


def _whole_number(values: _Event, name: str, where: str) -> int:
    value = values.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"{where}: {name} is {value!r}, not a whole number from 0 on; {_MEND}")
    return value


def _time(event: _Event, name: str, where: str) -> float:
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{where}: {name} is {value!r}, not a time in microseconds from 0 on; {_MEND}")
    return value


def _ticks(seconds: float) -> int:
    """Returns a time in eighths of a microsecond.

    Eighths are exact in binary, as microseconds and as nanoseconds, so that slices that touch do not overlap in any
    viewer's arithmetic; Perfetto would drop slices that overlap.
    """
    return round(seconds * 8e6)


def _span(record: BatchRecord, stage: StageName) -> tuple[int, int]:
    return _ticks(record.begin[stage]), _ticks(record.finish[stage])


def _event(phase: str, category: str, name: str, stage: StageName, ticks: int) -> _Event:
    return {"ph": phase, "cat": category, "name": name, "pid": _PROCESS, "tid": _ROWS[stage], "ts": ticks / 8}


def _row_names(stage: StageName, row: int) -> Iterator[_Event]:
    of_row: _Event = {"ph": "M", "pid": _PROCESS, "tid": row}
    yield of_row | {"name": "thread_name", "args": {"name": stage}}
    yield of_row | {"name": "thread_sort_index", "args": {"sort_index": row}}


def _joined(events: Iterable[_Event]) -> bytes:
    return ",".join(f"\n{json.dumps(event)}" for event in events).encode()
