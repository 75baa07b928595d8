"""Evaluation as TGB's example of a TGN has it: a pass through memory, neighbours and attention for each event."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.peers.pyg_loop import TGNLoop


@torch.no_grad()
def score_events(loop: TGNLoop, events: range, first: int, negatives: Sequence[Tensor]) -> list[Tensor]:
    """Returns the scores of each event and of its negatives, [1 + K], all as of the batch's first event.

    Args:
        loop: Its modules are in evaluation mode.
        events: The event ids.
        first: The batch's first event.
        negatives: Of each event, Int64[K].
    """
    data, scores = loop.workload.data, []
    for e_id, others in zip(events, negatives, strict=True):
        src, dst = data.src[e_id : e_id + 1], torch.cat([data.dst[e_id : e_id + 1], others])
        n_id, edge_index, e_ids = loop.neighbors.sample(torch.cat([src, dst]).unique(), first)
        loop.local[n_id] = torch.arange(n_id.numel())
        z, last_update = loop.memory(n_id)
        z = loop.gnn(z, last_update, edge_index, data.t[e_ids], data.msg[e_ids])
        z_src = z[loop.local[src]].expand(dst.numel(), -1)
        scores.append(loop.link_pred(z_src, z[loop.local[dst]]).view(-1))
    return scores
