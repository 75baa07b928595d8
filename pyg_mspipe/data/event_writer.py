"""The events of files, checked and written to columns as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyg_mspipe.data.column_file import Column, ColumnWriter
from pyg_mspipe.data.errors import Problem, StreamError
from pyg_mspipe.data.files import column_ids, stream_of
from pyg_mspipe.data.id_map import IdMap
from pyg_mspipe.data.ids import UnusableIdError
from pyg_mspipe.data.tables import Array, Table
from pyg_mspipe.data.validation import find_problems

if TYPE_CHECKING:
    from pyg_mspipe.data.stream_folder import StreamFolder

_SAMPLED = 64
"""Of so many events one time is kept, from which parts are cut."""

_LEAST_SAMPLED = 256


class EventWriter:
    """Checks blocks of events and writes their columns, in the order of the files.

    Args:
        folder: Where to write.
        reading: How files are read: arguments of `load_stream`.
        memory: Bytes that numbering ids may take.
        half: Whether messages are written as float16.
        before: The folder to append to, which is ``folder``; none for a new one.
        mark: Follows the names of files that are written anew.

    Attributes:
        ordered: Whether no time has decreased so far.
    """

    def __init__(
        self,
        folder: Path,
        reading: Mapping[str, Any],
        memory: int,
        *,
        half: bool,
        before: StreamFolder | None = None,
        mark: str = "",
    ) -> None:
        self._folder, self._reading, self._half, self._before = folder, reading, half, before
        self._writers: dict[str, ColumnWriter] = {}
        self._fields: list[str] | None = None
        self._largest_source = -1
        self._last_time: int | None = None
        self.ordered = True
        self._sample: list[Array] = []
        self._random = np.random.default_rng(0)
        self.maps: dict[str, tuple[Path, IdMap]] = {}
        if before is not None:
            self._open(before)
        sides = ("source_ids", "destination_ids") if reading.get("bipartite") else ("ids",)
        for name in sides if reading.get("relabel") else ():
            path = folder / f"{name}{mark}.parquet"
            known = None if before is None else before.path / before.manifest["ids"][name]["file"]
            self.maps[name] = path, IdMap(path, memory // len(sides), known)
        self._first_sources = self._maps()[0].count if self.maps else 0

    def _open(self, before: StreamFolder) -> None:
        for name in ("src", "dst", "t", "msg", "y"):
            if name in before.columns:
                column = before.columns[name]
                self._writers[name] = ColumnWriter(column.path, column.dtype, column.shape[1:], column.shape[0])
        self._fields = sorted(self._writers)
        self._last_time = int(before.columns["t"].read(before.num_events - 1, before.num_events)[0])

    def _maps(self) -> list[IdMap]:
        return [each for _, each in self.maps.values()]

    @property
    def num_events(self) -> int:
        """How many events have been written, with those that were there."""
        return self._writers["t"].rows if "t" in self._writers else 0

    @property
    def sample(self) -> Array:
        """Some of the times, Int64[S]."""
        return np.concatenate(self._sample)

    def add(self, path: Path, table: Table, names: Mapping[str, Sequence[str]]) -> None:
        """Writes a block of events.

        Args:
            path: The file that it is of.
            table: The block.
            names: The columns of each field.

        Raises:
            StreamError: If it holds what no stream holds.
        """
        reading = self._reading
        asked = "y" in (reading.get("columns") or {})
        scale = {name: reading.get(name) for name in ("time_format", "time_scale")}
        fields = stream_of(path, table, names, self._ids, asked, **scale)
        problems = find_problems(fields, sort=True, msg_names=names.get("msg", ()), place=table.place)
        if problems:
            mends = [getattr(each, "mends", {}) for each in problems]
            raise StreamError(*(Problem(f"{path}: {each}", **m) for each, m in zip(problems, mends, strict=True)))
        found: dict[str, Array] = {
            name: fields[name].numpy() for name in ("src", "dst", "t", "msg", "y") if name in fields
        }
        found |= {name: found[name].astype(np.int64, copy=False) for name in ("src", "dst", "t")}
        if "msg" in found and not found["msg"].shape[1]:
            del found["msg"]
        self._check_fields(path, found)
        self._check_times(path, table, found["t"])
        if "msg" in found and self._half:
            with np.errstate(over="ignore"):
                found["msg"] = found["msg"].astype(np.float16)
            if not np.isfinite(found["msg"]).all():
                raise StreamError(f"{path}: messages go beyond the range of float16; store them as float32")
        self._largest_source = max(self._largest_source, int(found["src"].max()))
        for name, values in found.items():
            writer = self._writers[name]
            if name == "y" and values.dtype.kind == "f" and writer.dtype.kind != "f":
                writer = self._writers[name] = self._wider(path, writer)
            writer.append(values)
        count = min(len(found["t"]), max(len(found["t"]) // _SAMPLED, _LEAST_SAMPLED))
        self._sample.append(self._random.choice(found["t"], count, replace=False))

    def _ids(self, path: Path, table: Table, src_name: str, dst_name: str) -> tuple[Array, Array]:
        relabel = bool(self.maps)
        src, dst = (column_ids(path, table, name, relabel=relabel) for name in (src_name, dst_name))
        if len(src) != len(dst):
            raise StreamError(f"{path}: src has {len(src)} entries and dst {len(dst)}; give each one entry per event")
        if not relabel:
            return src, dst
        names = src_name, dst_name
        sides = [side if table.text is None else table.text(name) for name, side in zip(names, (src, dst), strict=True)]
        maps = self._maps()
        try:
            if len(maps) == 1:
                one, other = maps[0].number(*sides)
            else:
                (one,), (other,) = (each.number(side) for each, side in zip(maps, sides, strict=True))
        except UnusableIdError as error:
            raise StreamError(
                f"{path}: {table.place(error.entry)}: columns {src_name} and {dst_name}: {error}"
            ) from error
        return one, other

    def _check_fields(self, path: Path, found: Mapping[str, Array]) -> None:
        if self._fields is None:
            self._fields = sorted(found)
            for name, values in found.items():
                kind = np.dtype(np.float16) if name == "msg" and self._half else values.dtype
                self._writers[name] = ColumnWriter(self._folder / f"{name}.npy", kind, values.shape[1:])
        if sorted(found) != self._fields:
            raise StreamError(f"{path} has {', '.join(sorted(found))}, and what comes before {', '.join(self._fields)}")
        for name, values in found.items():
            if values.shape[1:] != self._writers[name].tail:
                raise StreamError(
                    f"{path}: {name} has shape {values.shape[1:]} an event, and {self._writers[name].tail} before"
                )

    def _check_times(self, path: Path, table: Table, t: Array) -> None:
        if self._last_time is not None:
            t = np.concatenate([[self._last_time], t])
        event = int(np.argmax(t[1:] < t[:-1])) if len(t) > 1 else 0
        if len(t) > 1 and t[event + 1] < t[event]:
            self.ordered = False
            if not self._reading.get("sort"):
                place = table.place(event + (self._last_time is None))
                text = f"{path}: {place}: t decreases from {t[event]} to {t[event + 1]}"
                if self._before is not None:
                    raise StreamError(
                        f"{text}; append events in the order of their times, none before the folder's last"
                    )
                text += "; sort the stream or pass sort=True"
                raise StreamError(Problem(text, sort=True))
        self._last_time = int(t[-1])

    def _wider(self, path: Path, writer: ColumnWriter) -> ColumnWriter:
        if self._before is not None:
            raise StreamError(f"{path}: labels are {writer.dtype} in the folder and floats here; make them alike")
        return writer.widen()

    def discard(self) -> None:
        """Ends the writing of files that are written anew."""
        for each in self._maps():
            each.discard()

    def close(self) -> tuple[dict[str, Column], int]:
        """Ends the writing; returns the columns and by how much destinations are to be moved behind the sources.

        Raises:
            StreamError: If no events came, or new sources leave no place for destinations.
        """
        if not self._writers:
            raise StreamError("the stream is empty; give it at least one event")
        for each in self._maps():
            each.close()
        offset = 0
        if self._reading.get("bipartite"):
            sources = self._maps()[0].count if self.maps else self._largest_source + 1
            offset = sources if self._before is None else int(self._before.manifest["reading"]["offset"])
            if self._before is not None and sources > offset:
                raise StreamError(
                    "there are new sources, and destinations are numbered behind the old ones: convert again"
                )
        header = self._before is None
        return {name: writer.close(header=header, sync=header) for name, writer in self._writers.items()}, offset
