"""Columns in ``.npy`` files that are written in parts, appended to, read in parts, and mapped."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.feature_file import HEADER_BYTES, npy_header
from pyg_mspipe.data.tables import Array


@dataclass(frozen=True)
class Column:
    """What a file holds behind its header.

    Attributes:
        path: The file.
        dtype: Type of the numbers.
        shape: ``(rows, ...)``; the file may be longer, where an append was cut off.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """The size of a row."""
        return self.dtype.itemsize * prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """The size of the file, with its header."""
        return HEADER_BYTES + self.shape[0] * self.row_bytes

    def read(self, start: int, stop: int) -> Array:
        """Returns rows, read into memory."""
        out: Array = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        with self.path.open("rb", buffering=0) as file:
            file.seek(HEADER_BYTES + start * self.row_bytes)
            view = out.reshape(-1).view(np.uint8).data
            done = 0
            while done < len(view):  # one call reads 2 GiB at most
                count = file.readinto(view[done:])
                if not count:
                    raise OSError(f"{self.path} ends before row {stop}")
                done += count
        return out

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yields all rows, so many at a time."""
        for start in range(0, self.shape[0], rows):
            yield self.read(start, min(start + rows, self.shape[0]))

    def mapped(self) -> Tensor:
        """Returns the column as a tensor whose pages are read as they are met.

        What is written to the tensor stays in this process; the file is not changed.
        """
        count = prod(self.shape)
        kind = torch.from_numpy(np.empty(0, dtype=self.dtype)).dtype
        if not count:
            return torch.empty(self.shape, dtype=kind)
        with self.path.open("rb") as file:
            length = HEADER_BYTES + count * self.dtype.itemsize
            if sys.platform == "linux":
                # No room is set aside for what might be written: the file may be larger than memory.
                flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)
                mapping = mmap.mmap(file.fileno(), length, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            else:
                mapping = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY)
        return torch.frombuffer(mapping, dtype=kind, count=count, offset=HEADER_BYTES).view(self.shape)


class ColumnWriter:
    """Writes a column part by part, behind those that the file has.

    Args:
        path: The file.
        dtype: Type of the numbers.
        tail: The shape of a row.
        rows: How many rows the file keeps; what is behind them is dropped.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any] | type, tail: tuple[int, ...] = (), rows: int = 0) -> None:
        self.path, self.dtype, self.tail, self.rows = path, np.dtype(dtype), tail, rows
        self._open(os.O_RDWR | os.O_CREAT | (0 if rows else os.O_TRUNC))
        os.ftruncate(self._descriptor, self.column.nbytes)

    def _open(self, flags: int) -> None:
        self._descriptor = os.open(self.path, flags | getattr(os, "O_BINARY", 0), 0o666)
        self._end = weakref.finalize(self, os.close, self._descriptor)
        os.lseek(self._descriptor, self.column.nbytes, os.SEEK_SET)

    @classmethod
    def at(cls, column: Column, row: int) -> ColumnWriter:
        """Returns a writer over rows that a file has, from one on; nothing is dropped."""
        writer = cls.__new__(cls)
        writer.path, writer.dtype, writer.tail, writer.rows = column.path, column.dtype, column.shape[1:], row
        writer._open(os.O_RDWR)
        return writer

    @property
    def column(self) -> Column:
        """What has been written."""
        return Column(self.path, self.dtype, (self.rows, *self.tail))

    def append(self, values: Array) -> None:
        """Writes rows.

        Args:
            values: [n, ...], of the writer's shape of rows.
        """
        part = np.ascontiguousarray(values, dtype=self.dtype)
        view, done = part.reshape(-1).view(np.uint8).data, 0
        try:
            while done < len(view):
                done += os.write(self._descriptor, view[done:])
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.rows += len(part)

    def close(self, header: bool = True, sync: bool = True) -> Column:
        """Ends the writing and returns what the file holds.

        Args:
            header: Whether to write the header too; without, the file's readers see the rows that it had before.
            sync: Whether to sync the file to the disk.
        """
        if header:
            write_header(self.column, self._descriptor)
        if sync:
            os.fsync(self._descriptor)
        self._end()
        return self.column

    def widen(self) -> ColumnWriter:
        """Returns a writer of the same rows as float64, in place of this one."""
        column = self.close(sync=False)
        wider = ColumnWriter(self.path.with_suffix(".wide"), np.float64, self.tail)
        for block in column.blocks(1 << 16):
            wider.append(block)
        wider.path.replace(self.path)
        wider.path = self.path
        return wider


def write_header(column: Column, descriptor: int) -> None:
    """Writes a column's header to its file.

    Args:
        column: The column.
        descriptor: Of the open file.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, npy_header(column.dtype.str, column.shape))
