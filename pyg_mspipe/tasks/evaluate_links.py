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
from pyg_mspipe.models.link_predictor import BLOCK
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

    Each node is embedded once for a batch, however many ask for it, and pairs are scored in blocks, so that memory does
    not grow with the number of pairs. The memory may be PyG's ``TGNMemory`` or ours; put your modules into evaluation
    mode first, with the memory as it is before the first event.

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
        of = batch.neg_event
        src = batch.neg_src if "neg_src" in batch else batch.src.index_select(0, of)
        pairs = torch.cat([batch.src, src]), torch.cat([batch.dst, batch.neg_dst])
        rows = [torch.searchsorted(batch.n_id, each) for each in pairs]
        scores = _in_blocks(score, z, *rows).float().cpu()
        rankings.append(Ranking.of(_as_grid(scores, of.cpu(), len(batch.src))))
        update(batch.src, batch.dst, batch.t, batch.msg)
    return link_metrics(rankings, events, groups, logits=logits)


def _in_blocks(score: Callable[[Tensor, Tensor], Tensor], z: Tensor, src: Tensor, dst: Tensor) -> Tensor:
    """Returns the score of each pair of rows: [P]."""
    blocks = zip(src.split(BLOCK), dst.split(BLOCK), strict=True)
    return torch.cat([score(z.index_select(0, i), z.index_select(0, j)).reshape(-1) for i, j in blocks])


def _as_grid(scores: Tensor, of: Tensor, size: int) -> Tensor:
    """Returns the scores of events and, below, of their negatives, [1 + K, B], -inf where an event has fewer than K.

    Args:
        scores: [B + M], of events and then of negatives.
        of: Int64[M], ascending, the event of each negative.
        size: The number of events ``B``.
    """
    count = torch.bincount(of, minlength=size)
    place = torch.arange(of.numel()) - (count.cumsum(0) - count).index_select(0, of)
    grid = scores.new_full((1 + int(count.max()), size), -torch.inf)
    grid[0] = scores[:size]
    grid[1 + place, of] = scores[size:]
    return grid
