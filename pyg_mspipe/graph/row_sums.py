"""Rows gathered by index, with a backward whose sums have one order on every device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class RowSums:
    """Which of ``M`` gathered rows were gathered from each of ``S`` rows, whose gradient is the sum of theirs.

    Attributes:
        order: Int64[M], the gathered rows, sorted by where they are from; those from one row in their order.
        ptr: Int64[S + 1], where those from each row begin in ``order``, and where the last end.
    """

    order: Tensor
    ptr: Tensor


def row_sums(index: Tensor, size: int) -> RowSums:
    """Returns the sums of a gather, on the CPU.

    Args:
        index: Int64[...], from which rows it is.
        size: How many rows there are, ``S``.
    """
    flat = index.reshape(-1).cpu().numpy()
    # A stable sort of 16 bits is a radix sort, several times as fast as one of whole numbers.
    order = (flat.astype(np.uint16) if size <= 1 << 16 else flat).argsort(kind="stable")
    ptr = np.zeros(size + 1, dtype=np.int64)
    np.bincount(flat, minlength=size).cumsum(out=ptr[1:])
    return RowSums(torch.from_numpy(order), torch.from_numpy(ptr))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, order: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(order, ptr)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        order, ptr = ctx.saved_tensors
        parts = grad.index_select(0, order).float() if grad.dtype.itemsize < 4 else grad.index_select(0, order)
        # Unsafe, as it is called, leaves out a check of the offsets that a GPU's host would wait for.
        summed = torch.segment_reduce(parts, "sum", offsets=ptr, axis=0, unsafe=True)
        return summed.to(grad.dtype), None, None, None


def gather_rows(x: Tensor, index: Tensor, sums: RowSums | None) -> Tensor:
    """Returns ``x.index_select(0, index)``: [M, ...].

    Args:
        x: [S, ...].
        index: Int64[M].
        sums: Those of ``index``. Without them a GPU adds up gradients in no fixed order.
    """
    if sums is None:
        return x.index_select(0, index)
    out: Tensor = _GatherRows.apply(x, index, sums.order, sums.ptr)  # type: ignore[no-untyped-call]
    return out
