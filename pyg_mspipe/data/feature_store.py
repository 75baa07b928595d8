"""Feature stores: rows of features by id, from memory or from a file larger than memory."""

from __future__ import annotations

import mmap
import os
import sys
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.feature_file import FeatureLayout, read_layout
from pyg_mspipe.data.tensor_tree import ship

# Pages with no more than this many others between them are read in one request: reading those others costs less than a
# second request.
_GAP_PAGES = 2
# Linux drops the part of a request that is beyond its read-ahead window, by default 128 KiB. The rows of a request
# begin within half of that, since the last one may reach further.
_REQUEST_BYTES = 64 * 1024


class FeatureStore(Protocol):
    """Rows of features, read by id. Reading changes nothing, so any number of threads may read."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def width(self) -> int:
        """Numbers in a row, ``F``."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers: float32, float16 or bfloat16."""
        ...

    def read(self, ids: Tensor) -> Tensor:
        """Returns the rows ``[M, F]`` of ``ids: Int64[M]``, in their order, on the store's own device.

        Raises:
            IndexError: If an id is not that of a row.
        """
        ...


class TensorFeatures:
    """Features in memory.

    Args:
        x: Float32[E, F], Float16[E, F] or BFloat16[E, F], on any device. It is not copied.
        pinned: Whether rows are read into page-locked memory, from which a GPU copies without waiting
            (``non_blocking=True``).

    Raises:
        ValueError: If ``x`` has another shape or dtype, or if ``pinned`` is true although ``x`` is on a GPU or there is
            no CUDA device.
    """

    def __init__(self, x: Tensor, pinned: bool = False) -> None:
        if x.dim() != 2:
            raise ValueError(f"features have shape {tuple(x.shape)}, not [rows, width]; reshape them")
        if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"features are {x.dtype}; pass features.float()")
        if pinned and x.device.type != "cpu":
            raise ValueError(f"pinned=True is for features on the CPU, and these are on {x.device}; leave pinned out")
        _check_pinned(pinned)
        self._x = x.detach()
        self._pinned = pinned

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self._x.size(0)

    @property
    def width(self) -> int:
        """Numbers in a row, ``F``."""
        return self._x.size(1)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers."""
        return self._x.dtype

    @property
    def device(self) -> torch.device:
        """Where they are; ids of rows are best given there."""
        return self._x.device

    def read(self, ids: Tensor) -> Tensor:
        """Returns the rows ``[M, F]`` of ``ids: Int64[M]``, in their order, on the device of the features.

        Raises:
            IndexError: If an id is not that of a row, and the features are on the CPU.
        """
        return _select(self._x, ids.to(self._x.device), self._pinned, "the features")


class MappedFeatures:
    """Features in a file: only the rows that are asked for are read, and only the system's page cache keeps them.

    The file is a matrix in numpy's ``.npy`` format, from :func:`write_features` or ``numpy.save``; it must not change
    while it is open. Before rows are copied, the operating system is asked for all their pages, so that the disk has
    many requests to work on; without ``posix_fadvise`` (macOS, Windows) pages are read as they are met. Other Python
    threads run while a read waits for the disk.

    Args:
        path: The file, with float32, float16 or float64 rows in C order; the last are made float32 as they are read.
        pinned: Whether rows are read into page-locked memory, from which a GPU copies without waiting
            (``non_blocking=True``).
        skip: How many rows at the beginning are left out, so that row 0 is the one behind them.
        layout: Where the rows lie, where that is known from elsewhere than the file's header.

    Raises:
        StreamError: If the file does not exist, has another format, order, dtype or size, or all rows are left out.
        ValueError: If ``pinned`` is true and there is no CUDA device.
    """

    def __init__(
        self, path: str | Path, pinned: bool = False, skip: int = 0, layout: FeatureLayout | None = None
    ) -> None:
        _check_pinned(pinned)
        self.path, self.pinned, self.skip = Path(path), pinned, skip
        whole = read_layout(self.path) if layout is None else layout
        if not 0 <= skip < whole.num_rows:
            raise StreamError(f"{path}: skip={skip} of {whole.num_rows} rows; give a number from 0 that leaves some")
        layout = replace(whole, num_rows=whole.num_rows - skip, offset=whole.offset + skip * whole.row_bytes)
        self._layout = layout
        self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._fd)
        # Read-only, as a private writable mapping larger than memory would be refused.
        self._mapping = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # the tensor is never handed out
            flat = torch.frombuffer(
                self._mapping, dtype=layout.dtype, count=layout.num_rows * layout.width, offset=layout.offset
            )
        self._x = flat.view(layout.num_rows, layout.width)
        self._prefetches = hasattr(os, "posix_fadvise")
        if self._prefetches:
            # All pages that are needed are asked for explicitly; read-ahead would fetch pages that are not needed.
            self._mapping.madvise(mmap.MADV_RANDOM)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self._layout.num_rows

    @property
    def width(self) -> int:
        """Numbers in a row, ``F``."""
        return self._layout.width

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers as they are read: float32 or float16."""
        return torch.float16 if self._layout.dtype == torch.float16 else torch.float32

    def read(self, ids: Tensor) -> Tensor:
        """Returns the rows ``[M, F]`` of ``ids: Int64[M]``, in their order, on the CPU.

        Raises:
            IndexError: If an id is not that of a row.
        """
        ids = ids.cpu()
        if self._prefetches:
            for start, length in requests(ids.unique(), self._layout.offset, self._layout.row_bytes):
                os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_WILLNEED)
        if self._x.dtype == self.dtype:
            return _select(self._x, ids, self.pinned, str(self.path))
        rows = _select(self._x, ids, False, str(self.path)).to(self.dtype)
        return rows.pin_memory() if self.pinned else rows

    def evict(self) -> None:
        """Drops the file's pages from the page cache, so that the next read truly reads the disk.

        For measurements, and to give memory back at once. Pages that another mapping of the file has in use stay.

        Raises:
            NotImplementedError: On a system without ``posix_fadvise`` (macOS, Windows).
        """
        if not self._prefetches:
            raise NotImplementedError(f"evict needs posix_fadvise, which {sys.platform} has not; run it on Linux")
        os.fsync(self._fd)  # pages that are not on the disk yet cannot be dropped
        self._mapping.madvise(mmap.MADV_DONTNEED)  # nor can pages that are mapped
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


def read_to(device: torch.device, features: FeatureStore, ids: Tensor, there: Tensor) -> Tensor:
    """Returns rows of features on a device, in float32: Float32[M, F]. The host waits for no copy of them.

    Args:
        device: Where they are wanted.
        features: The features.
        ids: Int64[M], of the rows, on the CPU.
        there: The same on the device.
    """
    rows = features.read(there if getattr(features, "device", ids.device) == there.device else ids)
    if device.type == "cuda" and rows.device.type == "cpu" and not rows.is_pinned():
        rows = ship(rows, device)
    return rows.to(device, non_blocking=True).float()


def check_features(
    features: FeatureStore | None, node_features: FeatureStore | None, *, num_events: int, num_nodes: int
) -> None:
    """Refuses features that are not those of a stream.

    Args:
        features: Of the events, a row for each; none are not checked.
        node_features: Of the nodes, a row for each at least; none are not checked.
        num_events: How many events the stream has.
        num_nodes: How many nodes.

    Raises:
        StreamError: If there are too few rows, or too many of events.
    """
    if features is not None and features.num_rows != num_events:
        raise StreamError(
            f"{features_name(features)}: {features.num_rows} rows of event features for {num_events} events; give one "
            f"row for each event of the stream, in the order of the events"
        )
    if node_features is not None and node_features.num_rows < num_nodes:
        raise StreamError(
            f"{features_name(node_features)}: {node_features.num_rows} rows of node features for {num_nodes} nodes; "
            f"give one row for each node from 0 to {num_nodes - 1}"
        )


def features_name(features: FeatureStore) -> str:
    """Returns where features are, for messages: the file's path, or that they are in memory."""
    return str(features.path) if isinstance(features, MappedFeatures) else "in memory"


def requests(ids: Tensor, offset: int, row_bytes: int) -> list[tuple[int, int]]:
    """Returns the parts of a file to ask for, as ``(start, length)`` in bytes: few parts, little larger than the rows.

    Args:
        ids: Int64[U], unique, sorted: the rows.
        offset: Where row 0 begins, in bytes.
        row_bytes: The size of a row.
    """
    page = mmap.PAGESIZE
    first = (ids * row_bytes + offset) // page
    last = (ids * row_bytes + (offset + row_bytes - 1)) // page
    window = max(_REQUEST_BYTES // page, 1)
    apart = (first[1:] - last[:-1] > _GAP_PAGES + 1) | (first[1:] // window != first[:-1] // window)
    begins = torch.cat([apart.new_ones(min(len(ids), 1)), apart])
    start = first[begins] * page
    end = last[begins.roll(-1)] * page + page
    return list(zip(start.tolist(), (end - start).tolist(), strict=True))


def _select(x: Tensor, ids: Tensor, pinned: bool, name: str) -> Tensor:
    # torch lets other Python threads run meanwhile, also while it waits for the pages of a mapping.
    out = torch.empty(len(ids), x.size(1), dtype=x.dtype, pin_memory=True) if pinned else None
    try:
        return torch.index_select(x, 0, ids, out=out)
    except IndexError as error:
        beyond = ids[(ids < 0) | (ids >= x.size(0))]
        raise IndexError(f"row {int(beyond[0])} is asked for, and {name} has rows 0 to {x.size(0) - 1}") from error


def _check_pinned(pinned: bool) -> None:
    if pinned and not torch.cuda.is_available():
        raise ValueError("pinned=True needs a CUDA device, and torch finds none; leave pinned out")
