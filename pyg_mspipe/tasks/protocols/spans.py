"""Items of lists that lie one after the other in one tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def items(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ``(row, at)``: Int64[M] each, for every item of ``B`` lists the list's number and the item's place.

    Args:
        begin: Int64[B], the place of each list's first item.
        end: Int64[B], the place after each list's last item.
    """
    count = end - begin
    row = torch.arange(begin.numel()).repeat_interleave(count)
    before = count.cumsum(0) - count
    return row, torch.arange(row.numel()) - before[row] + begin[row]


def place(ascending: Tensor, wanted: Tensor) -> Tensor:
    """Returns Int64[...]: where each wanted number lies among others, -1 where it does not.

    Args:
        ascending: Int64[M], distinct.
        wanted: Int64[...].
    """
    if not ascending.numel():
        return torch.full_like(wanted, -1)
    at = torch.searchsorted(ascending, wanted.contiguous()).clamp_(max=ascending.numel() - 1)
    return torch.where(ascending[at] == wanted, at, -1)
