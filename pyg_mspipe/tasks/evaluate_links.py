"""Evaluation of a model in a loop of somebody's own, written as PyG's and TGB's examples are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe._choices import Overlap, Strategy
from pyg_mspipe.data import DrawNegatives, EventGroups, FeatureStore
from pyg_mspipe.loader import PipelineLoader
from pyg_mspipe.models.link_predictor import BLOCK, LinkPredictor
from pyg_mspipe.tasks.link_metrics import LinkMetrics, link_metrics
from pyg_mspipe.tasks.ranking import Ranking


class Embed(Protocol):
    """Embeds the nodes of a batch."""

    def __call__(self, n_id: Tensor, edge_index: Tensor, edge_time: Tensor, edge_attr: Tensor, /) -> Tensor:
        """Returns an embedding for each node: [U, D].

        Args:
            n_id: Int64[U], unique, sorted: the nodes that are asked for, and their neighbours.
            edge_index: Int64[2, M], positions in ``n_id``: neighbour, node.
            edge_time: Int64[M], in the stream's unit.
            edge_attr: [M, msg_dim].
        """
        ...


@torch.no_grad()
def evaluate_links(
    data: TemporalData,
    events: range,
    *,
    negatives: DrawNegatives,
    embed: Embed,
    score: Callable[[Tensor, Tensor], Tensor],
    update: Callable[[Tensor, Tensor, Tensor, Tensor], Any],
    batch_size: int = 200,
    num_neighbors: Sequence[int] = (10,),
    strategy: Strategy = "recent",
    features: FeatureStore | None = None,
    device: torch.device | str | None = None,
    overlap: Overlap = "auto",
    groups: EventGroups | None = None,
    logits: bool = True,
) -> LinkMetrics:
    """Returns the metrics of a model of your own on some events, each ranked among its negatives.

    Each node is embedded once for a batch, however many ask for it, and each pair scored once, in blocks. A
    :class:`~pyg_mspipe.LinkPredictor`, which takes the weights of PyG's and TGB's examples, also projects each node
    once, which takes a fraction of the time. The memory may be PyG's ``TGNMemory`` or ours; put your modules into
    evaluation mode first, with the memory as it is before the first event.

    Args:
        data: The whole stream, so that neighbours from before ``events`` are found.
        events: The event ids.
        negatives: Gives the negatives of a batch, such as
            ``lambda at: sampler.query_batch(at.src, at.dst, at.t, split_mode="val")`` with TGB's sampler.
        embed: Embeds nodes, from the events before the batch.
        score: Scores pairs of embeddings, [P, D] each, as [P] or [P, 1]; the larger, the likelier.
        update: Called with ``src, dst, t, msg`` of each batch after it was scored, such as ``memory.update_state``.
        batch_size: Events in a batch.
        num_neighbors: Neighbours of a node, for each hop.
        strategy: ``"recent"`` or ``"uniform"`` neighbours.
        features: The features of the events, by default the stream's ``msg``.
        device: Where the modules are, by default where the stream is.
        overlap: Whether batches are read in threads beside scoring; see :class:`~pyg_mspipe.PipelineLoader`.
        groups: Groups of the stream's events that metrics are told apart by, ``EventGroups.of(data, split)``.
        logits: Whether ``score`` gives logits, of whose sigmoids AP and AUC are made as in PyG's example.

    Raises:
        StreamError: If the stream cannot be used.
        ValueError: If an argument is out of range, or a negative is no node.
        PipelineError: If a batch cannot be read.
    """
    loader = PipelineLoader(
        data,
        batch_size=batch_size,
        num_neighbors=num_neighbors,
        negatives=negatives,
        events=events,
        strategy=strategy,
        features=features,
        device=device,
        overlap=overlap,
    )
    rankings = []
    for batch in loader:
        z = embed(batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
        src, dst, there = _grids(batch)
        if isinstance(score, LinkPredictor):
            scores = score.score_rows(z, src.t(), dst.t()).t().float()
        else:
            scores = _distinct_pairs(score, z, src.expand_as(dst), dst).float()
        # A score may be infinite, such as the logarithm of 0; -inf is kept for negatives that are missing.
        least, largest = (getattr(torch.finfo(scores.dtype), name) for name in ("min", "max"))
        scores = scores.clamp(least, largest)
        if not bool(there.all()):
            scores = scores.masked_fill(~there, -torch.inf)
        rankings.append(Ranking.of(scores.cpu()))
        update(batch.src, batch.dst, batch.t, batch.msg)
    return link_metrics(rankings, events, groups, logits=logits)


def _grids(batch: TemporalData) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the rows of sources, Int64[1 + K, B] or [1, B], and destinations, Int64[1 + K, B], and which there are.

    Row 0 has the events' own; where an event has fewer than ``K`` negatives its own destination stands in their place.

    Args:
        batch: A loader's batch, with negatives.
    """
    of, size = batch.neg_event, len(batch.src)
    count = torch.bincount(of, minlength=size)
    place = 1 + torch.arange(of.numel(), device=of.device) - (count.cumsum(0) - count).index_select(0, of)
    there = torch.arange(1 + int(count.max()), device=of.device).unsqueeze(1) <= count
    dst = batch.dst.expand_as(there).clone().index_put_((place, of), batch.neg_dst)
    src = batch.src.unsqueeze(0)
    if "neg_src" in batch:
        src = src.expand_as(there).clone().index_put_((place, of), batch.neg_src)
    return torch.searchsorted(batch.n_id, src), torch.searchsorted(batch.n_id, dst), there


def _distinct_pairs(score: Callable[[Tensor, Tensor], Tensor], z: Tensor, src: Tensor, dst: Tensor) -> Tensor:
    """Returns the score of each pair of rows, [1 + K, B], equal pairs scored once, in blocks.

    Args:
        score: Scores pairs of embeddings.
        z: [U, D].
        src: Int64[1 + K, B], rows.
        dst: Int64[1 + K, B], rows.
    """
    pair, position = (src * z.size(0) + dst).unique(return_inverse=True)
    blocks = ((each.div(z.size(0), rounding_mode="floor"), each % z.size(0)) for each in pair.split(BLOCK))
    scored = [score(z.index_select(0, i), z.index_select(0, j)).reshape(-1) for i, j in blocks]
    return torch.cat(scored)[position]
