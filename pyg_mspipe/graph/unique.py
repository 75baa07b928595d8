"""Distinct ids of a known range."""

from __future__ import annotations

import torch
from torch import Tensor


def unique_ids(ids: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Returns the distinct ids, ascending, Int64[U], and the position among them of each: Int64[M].

    As ``torch.unique`` does, but without a sort where there are at least as many ids as they could have values.

    Args:
        ids: Int64[M].
        size: All ids are below it.
    """
    if ids.numel() < size:
        distinct, position = ids.unique(return_inverse=True)
        return distinct, position
    present = torch.zeros(size, dtype=torch.bool, device=ids.device).index_fill_(0, ids, True)
    rank = present.cumsum(0).sub_(1)
    return present.nonzero().view(-1), rank.index_select(0, ids)
