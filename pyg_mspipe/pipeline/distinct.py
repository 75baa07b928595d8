"""Queries that are asked for several times in a batch, to be embedded once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.graph.unique import unique_ids


def distinct_queries(
    sample: NeighborSample, query_t: Tensor, *, by_moment: bool
) -> tuple[NeighborSample, Tensor, Tensor]:
    """Returns the neighbourhoods and moments of the distinct ones of ``Q`` queries, and which answers each: Int64[Q].

    Args:
        sample: Neighbourhoods of the queries, and of others after them.
        query_t: Int64[Q], the moments that the queries ask for.
        by_moment: Whether queries of one node that see the same events differ by the moment that they ask for.
    """
    num_queries = query_t.numel()
    key = sample.seed[:num_queries]
    size = sample.hops[0].target.numel() if sample.hops else sample.n_id.numel()
    if by_moment:
        moments, at = query_t.unique(return_inverse=True)
        key, size = key * moments.numel() + at, size * moments.numel()
    distinct, asked = unique_ids(key, size)
    # The first query of each kind stands for all, whatever the device.
    first = torch.full_like(distinct, num_queries)
    first.scatter_reduce_(0, asked, torch.arange(num_queries, device=key.device), "amin")
    seed = torch.cat([sample.seed.index_select(0, first), sample.seed[num_queries:]])
    return replace(sample, seed=seed), query_t.index_select(0, first), asked
