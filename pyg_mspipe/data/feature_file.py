"""Feature rows in a file: numpy's ``.npy`` format, so that numpy can make such a file and read it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.data.errors import StreamError

DTYPES = {"<f4": torch.float32, "<f2": torch.float16}
"""The dtypes that a file is written with, by numpy's names."""

READABLE = DTYPES | {"<f8": torch.float64}
"""The dtypes that a file may hold."""

# The size of a page, so that rows whose size divides it never cross a page. numpy accepts any multiple of 64.
HEADER_BYTES = 4096
"""The size of the header of the files that are written."""


@dataclass(frozen=True)
class FeatureLayout:
    """Where the rows of a file lie.

    Attributes:
        num_rows: Number of rows, at least 1.
        width: Numbers in a row, at least 1.
        dtype: Type of the numbers.
        offset: Where the first row begins, in bytes; rows follow each other without a gap.
    """

    num_rows: int
    width: int
    dtype: torch.dtype
    offset: int

    @property
    def row_bytes(self) -> int:
        """The size of a row."""
        return self.width * self.dtype.itemsize


def read_layout(path: Path) -> FeatureLayout:
    """Returns the layout of a file, from its header and its size.

    Raises:
        StreamError: If the file does not exist, is not a ``.npy`` file of float32, float16 or float64 rows in C order,
            or does not have the size that its header says.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise StreamError(f"{path} {what}; write features to a file with write_features or numpy.save")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            # Version 3 only adds names of columns, which rows of numbers do not have.
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = read(_without_padding(file, 2 if version == (1, 0) else 4))
        except Exception as error:  # a damaged header may raise any error
            reason = next(iter(str(error).splitlines()), "")
            mend = "write it with write_features or numpy.save"
            raise StreamError(f"{path} is not a .npy file ({reason}); {mend}") from error
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
    if dtype.str not in READABLE:
        raise StreamError(f"{path} holds {dtype.newbyteorder('=')} ({dtype.str}); save it as '<f4' or '<f2'")
    if len(shape) != 2 or min(shape) < 1:
        raise StreamError(f"{path} has shape {shape}; save a matrix [rows, width] that is not empty")
    if columns_first:
        raise StreamError(f"{path} is stored column after column; save numpy.ascontiguousarray(features)")
    layout = FeatureLayout(*shape, READABLE[dtype.str], offset)
    expected = offset + layout.num_rows * layout.row_bytes
    if size != expected:
        state = "cut off" if size < expected else "overwritten in part"
        raise StreamError(
            f"{path} has {size} bytes, and {expected} by its header ({shape[0]} rows of {shape[1]} {dtype}); "
            f"it was {state}: write it anew"
        )
    return layout


def _without_padding(file: BinaryIO, size: int) -> BinaryIO:
    """Returns a header of which ``size`` bytes are its length, with which numpy is quick even where it is damaged."""
    length = int.from_bytes(file.read(size), "little")
    text = file.read(length)
    if len(text) < length:
        raise ValueError("its header is cut off")
    text = b" ".join(text.split())
    return io.BytesIO(len(text).to_bytes(size, "little") + text)


def write_features(path: str | Path, features: Tensor | Iterable[Tensor]) -> None:
    """Writes rows to a ``.npy`` file, so that ``path`` holds either all of them or what it held before.

    Args:
        path: The file to write.
        features: Float32[E, F] or Float16[E, F], finite; or blocks of rows in order, from a generator for instance,
            where all rows together do not fit into memory.

    Raises:
        StreamError: If a block has another shape or dtype than the first, or holds a number that is not finite, or if
            there are no rows at all.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    with atomic_write(path) as file:
        file.write(bytes(HEADER_BYTES))
        num_rows, width, dtype = 0, 0, torch.float32
        for block in [features] if isinstance(features, Tensor) else features:
            if num_rows == 0 and block.dim() == 2:
                width, dtype = block.size(1), block.dtype
            _check_block(block, num_rows, width, dtype)
            file.write(block.detach().cpu().contiguous().numpy().data)
            num_rows += len(block)
        if num_rows == 0:
            raise StreamError(f"no features to write to {path}; give at least one row")
        file.seek(0)
        file.write(_header(num_rows, width, dtype))


def _check_block(block: Tensor, start: int, width: int, dtype: torch.dtype) -> None:
    """Refuses a block that cannot follow the ``start`` rows before it."""
    if block.dim() != 2 or block.size(1) == 0:
        raise StreamError(
            f"row {start}: the features have shape {tuple(block.shape)}; give [rows, width], width above 0"
        )
    if (block.size(1), block.dtype) != (width, dtype):
        raise StreamError(
            f"row {start}: a block of {block.size(1)} {block.dtype} follows rows of {width} {dtype}; make them alike"
        )
    if block.dtype not in DTYPES.values():
        raise StreamError(f"row {start}: the features are {block.dtype}; pass features.float() or features.half()")
    finite = block.isfinite()
    if not finite.all():
        row, column = (~finite).nonzero()[0].tolist()
        raise StreamError(
            f"row {start + row}: the features are {block[row, column].item()} in column {column}; fill it in"
        )


def _header(num_rows: int, width: int, dtype: torch.dtype) -> bytes:
    (descr,) = [name for name, each in DTYPES.items() if each == dtype]
    return npy_header(descr, (num_rows, width))


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Returns a ``.npy`` header, version 1.0, always of the same length.

    The number of rows is known only at the end, when the header is written over its empty place. The format is
    described in the documentation of ``numpy.lib.format``.

    Args:
        descr: The type of the numbers, by numpy's name.
        shape: The array's.
    """
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00"
    length = HEADER_BYTES - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
