"""Reductions over consecutive segments: torch_scatter's where it is installed, torch's otherwise."""

from __future__ import annotations

from functools import cache

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.typing import torch_scatter


def segment_ids(ptr: Tensor) -> Tensor:
    """Returns Int64[M]: the segment of each item, where segment ``s`` holds the items ``ptr[s]:ptr[s + 1]``."""
    return torch.arange(ptr.numel() - 1, device=ptr.device).repeat_interleave(ptr.diff())


def segment_max(src: Tensor, ptr: Tensor) -> Tensor:
    """Returns the largest item of each segment, shaped ``[S]``; 0 for an empty segment.

    Args:
        src: ``[M]``, any real dtype.
        ptr: Int64[S + 1], non-decreasing, from 0 to ``M``.
    """
    if torch_geometric.typing.WITH_TORCH_SCATTER and (not src.is_cuda or _built_for_cuda()):
        out: Tensor = torch_scatter.segment_max_csr(src, ptr)[0]
        return out
    return src.new_zeros(ptr.numel() - 1).scatter_reduce_(0, segment_ids(ptr), src, "amax", include_self=False)


@cache
def _built_for_cuda() -> bool:
    """Returns whether torch_scatter knows CUDA: where it was compiled beside a torch for CPUs, it does not."""
    try:
        return int(torch.ops.torch_scatter.cuda_version()) >= 0
    except (AttributeError, RuntimeError):
        return False


def segment_argmax(src: Tensor, ptr: Tensor, *, last: bool) -> Tensor:
    """Returns Int64[S]: the position in ``src`` of the largest item of each segment; undefined for an empty segment.

    Args:
        src: ``[M]``, any real dtype.
        ptr: Int64[S + 1], non-decreasing, from 0 to ``M``.
        last: Whether to take the last of equal items, rather than the first.
    """
    is_max = src == segment_max(src, ptr)[segment_ids(ptr)]
    position = torch.arange(src.numel(), device=src.device)
    if last:
        return segment_max(torch.where(is_max, position, -1), ptr)
    return -segment_max(torch.where(is_max, -position, -src.numel()), ptr)
