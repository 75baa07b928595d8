"""Stream folders: streams whose columns, features and history are files that are mapped, not read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.column_file import Column
from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.feature_file import HEADER_BYTES, FeatureLayout
from pyg_mspipe.data.feature_store import FeatureStore, MappedFeatures, TensorFeatures
from pyg_mspipe.data.temporal_data import FOLDER, FolderFields, temporal_data

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

MANIFEST, FORMAT, VERSION = "manifest.json", "mspipe stream", 1
SUFFIX, PART = ".stream", ".part-"
RANGE_BLOCK = 1 << 16
"""Events in a block of which the smallest and the largest destination up to its end are kept."""

COLUMNS = ("src", "dst", "t", "key", "neighbor", "indptr", "loops", "dst_range")
"""The columns that every folder has."""

# Messages up to this size are left to the page cache like all columns; a larger file is read by requests.
_SMALL = 1 << 26


@dataclass(frozen=True)
class StreamFolder:
    """An open stream folder.

    Attributes:
        path: The folder.
        manifest: What its ``manifest.json`` says.
        columns: Its columns, by name; ``msg`` and ``y`` only where the stream has them.
    """

    path: Path
    manifest: Mapping[str, Any]
    columns: Mapping[str, Column]

    def __reduce__(self) -> tuple[Any, ...]:
        """Opens the folder again where a stream is copied to: in another process, or as a whole."""
        return StreamFolder.open, (self.path,)

    @classmethod
    def open(cls, path: Path) -> StreamFolder:
        """Returns a folder, whose files are found, have their sizes, and are not read.

        Args:
            path: The folder.

        Raises:
            StreamError: If it is no stream folder, is not whole, or has another format.
        """
        manifest = _manifest(path)
        columns = {}
        try:
            for name, each in manifest["columns"].items():
                columns[name] = Column(path / each["file"], np.dtype(each["dtype"]), tuple(each["shape"]))
            manifest["num_events"], manifest["num_nodes"], manifest["fingerprint"]["stream"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StreamError(f"{path / MANIFEST} is damaged ({error}); convert the stream again") from error
        missing = [name for name in COLUMNS if name not in columns]
        missing += [name for name, column in columns.items() if not column.path.is_file()]
        if missing:
            files = ", ".join(columns[name].path.name if name in columns else f"{name}.npy" for name in missing)
            raise StreamError(f"{path} lacks {files}; convert the stream again")
        for column in columns.values():
            size = column.path.stat().st_size
            if size < column.nbytes:
                raise StreamError(
                    f"{column.path} has {size} bytes of {column.nbytes}; it was cut off: convert the stream again"
                )
        return cls(path, manifest, columns)

    @property
    def num_events(self) -> int:
        """How many events there are."""
        return int(self.manifest["num_events"])

    @property
    def num_nodes(self) -> int:
        """How many nodes there are: the largest id plus one."""
        return int(self.manifest["num_nodes"])

    @property
    def nbytes(self) -> int:
        """The size of all columns."""
        return sum(column.nbytes for column in self.columns.values())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All columns, mapped; without messages, those of width 0."""
        found = {"msg": torch.empty(self.num_events, 0)}
        found |= {name: column.mapped() for name, column in self.columns.items()}
        return found

    @property
    def data(self) -> TemporalData:
        """The stream, as :func:`~pyg_mspipe.data.check_stream` gives it, but for messages of float16.

        Its columns are the same tensors at each call.
        """
        return temporal_data(self.fields)

    @property
    def fields(self) -> FolderFields:
        """The fields of the stream."""
        names = [name for name in ("src", "dst", "t", "msg", "y") if name in self.tensors]
        return FolderFields(self, {name: self.tensors[name] for name in names})

    def messages(self, device: torch.device) -> FeatureStore:
        """Returns the messages: few are brought to the device, of many only the rows that are asked for are read.

        Args:
            device: Where batches are brought to.
        """
        column = self.columns.get("msg")
        if column is None or column.nbytes <= _SMALL:
            return TensorFeatures(self.tensors["msg"].to(device))
        kind = torch.float16 if column.dtype == np.float16 else torch.float32
        layout = FeatureLayout(column.shape[0], column.shape[1], kind, HEADER_BYTES)
        return MappedFeatures(column.path, device.type == "cuda", layout=layout)

    def destination_range(self, stop: int) -> tuple[int, int]:
        """Returns the smallest and the largest destination of the first events.

        Args:
            stop: How many events, at least one.
        """
        whole = stop // RANGE_BLOCK
        found = [self.tensors["dst_range"][whole - 1]] if whole else []
        rest = self.tensors["dst"][whole * RANGE_BLOCK : stop]
        if rest.numel():
            found.append(torch.stack(torch.aminmax(rest)))
        both = torch.stack(found)
        return int(both[:, 0].min()), int(both[:, 1].max())

    def first_event(self, node: Tensor) -> Tensor:
        """Returns the first event that touches each node: Int64[M], the number of events where there is none.

        Args:
            node: Int64[M].
        """
        key, begin = self.tensors["key"], self.tensors["indptr"][node]
        first = key[begin.clamp(max=key.numel() - 1)] - node * self.num_events
        return first.clamp(max=self.num_events)

    def events_before(self, node: Tensor, bound: int) -> Tensor:
        """Returns how many of the first events touch each node, a self-loop being one: Int64[M].

        Args:
            node: Int64[M].
            bound: How many events.
        """
        end = torch.searchsorted(self.tensors["key"], node * self.num_events + bound)
        loops = self.tensors["loops"]
        loops = loops[: int(torch.searchsorted(loops, bound))]
        count = end - self.tensors["indptr"][node]
        if loops.numel():
            looping, times = self.tensors["src"][loops].unique(return_counts=True)
            place = torch.searchsorted(looping, node).clamp(max=looping.numel() - 1)
            count = count - torch.where(looping[place] == node, times[place], 0)
        return count


def folder_of(data: TemporalData | Mapping[str, Tensor], *, messages: bool = False) -> StreamFolder | None:
    """Returns the folder whose columns a stream is, whole and unchanged; none for other streams.

    Args:
        data: The stream, or its fields.
        messages: Whether its messages must be the folder's too.
    """
    names = ("src", "dst", "t", "msg") if messages else ("src", "dst", "t")
    folder: StreamFolder | None = data.folder if isinstance(data, FolderFields) else getattr(data, FOLDER, None)
    if folder is None or not all(name in data for name in names):
        return None
    tensors = [data[name] for name in names]
    # The version of a tensor counts the changes to what it holds.
    same = all(x is folder.tensors[name] and x._version == 0 for name, x in zip(names, tensors, strict=True))
    return folder if same else None


def num_nodes_of(data: TemporalData | Mapping[str, Tensor]) -> int:
    """Returns the largest id of a stream plus one, without a look at the events of a folder."""
    folder = folder_of(data)
    return max(int(data[end].max()) for end in ("src", "dst")) + 1 if folder is None else folder.num_nodes


def count_nodes_of(data: TemporalData | Mapping[str, Tensor]) -> int:
    """Returns how many distinct nodes a stream has, without a look at the events of a folder."""
    from pyg_mspipe.data.summary import count_nodes

    folder = folder_of(data)
    if folder is None:
        return count_nodes(data["src"], data["dst"])
    return int(folder.manifest["summary"]["num_distinct_nodes"])


def destination_range(data: TemporalData, stop: int) -> tuple[int, int]:
    """Returns the smallest and the largest destination of the first events of a stream.

    Args:
        data: The stream.
        stop: How many events, at least one.
    """
    folder = folder_of(data)
    if folder is not None:
        return folder.destination_range(stop)
    low, high = data.dst[:stop].aminmax()
    return int(low), int(high)


def is_folder(path: Path) -> bool:
    """Returns whether a path is meant as that of a stream folder."""
    return path.is_dir() or path.suffix == SUFFIX or f"{SUFFIX}{PART}" in path.name


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise StreamError(f"{path} {what}; give a stream folder, which mspipe data convert makes")
    if re.search(rf"{re.escape(SUFFIX + PART)}\w+$", path.name):
        raise StreamError(f"{path} is what a conversion that was cut off has left; convert the stream again")
    try:
        found = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise StreamError(
            f"{path} is a folder; give the path of a file, or of a stream folder that has its {MANIFEST}, which mspipe "
            f"data convert makes"
        ) from None
    except ValueError as error:
        raise StreamError(f"{path / MANIFEST} is damaged ({error}); convert the stream again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StreamError(f"{path / MANIFEST} is not the manifest of a stream folder; give another folder")
    if found.get("version") != VERSION:
        raise StreamError(
            f"{path} has format version {found.get('version')}, this version reads {VERSION}; convert the stream again"
        )
    return found
