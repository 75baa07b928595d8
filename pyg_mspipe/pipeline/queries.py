"""What a model is asked at the events of a batch: nodes, each as of the moment of an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import Negatives


@dataclass(frozen=True)
class Queries:
    """``Q`` nodes that are to be embedded.

    Attributes:
        node: Int64[Q].
        event: Int64[Q], positions in the batch of the events at whose times they are asked for.
        both_ends: Whether both ends of every event are surely among the nodes; if not, their memory is read too, since
            the batch updates it.
        t: Int64[Q], the moments that are asked for where these are not the events' times; an event is seen only if it
            is before them too.
    """

    node: Tensor
    event: Tensor
    both_ends: bool = False
    t: Tensor | None = None


Ask = Callable[[Tensor, Tensor, Negatives, "Labels | None"], Queries]
"""Returns what is asked at ``B`` events: of sources, Int64[B], destinations, Int64[B], negatives, and the labels that
are asked for at them, whose events are positions in the batch; none where there are no labels."""


def ask_pairs(src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
    """Returns the queries of pairs: all sources, all destinations, set after set of negatives, and sources of these.

    Where an event has fewer negatives than others, node 0 is asked for in place of what is missing.

    Args:
        src: Int64[B].
        dst: Int64[B].
        negatives: Of each event, ``K`` or fewer; ``K`` may be 0.
        labels: Passed over.
    """
    event = torch.arange(src.numel(), device=src.device)
    others = [negatives.dst] if negatives.src is None else [negatives.dst, negatives.src]
    if negatives.padded:
        others = [each.clamp(min=0) for each in others]
    node = torch.cat([src, dst, *(each.reshape(-1) for each in others)])
    return Queries(node, event.repeat(2 + len(others) * negatives.dst.size(0)), both_ends=True)


def ask_sources(src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
    """Returns the queries of the events' sources alone.

    Args:
        src: Int64[B].
        dst: Int64[B].
        negatives: Passed over.
        labels: Passed over.
    """
    return Queries(src, torch.arange(src.numel(), device=src.device))


def ask_labelled_nodes(src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None) -> Queries:
    """Returns the queries of the nodes that have labels, as of the moments of these.

    Args:
        src: Int64[B], passed over.
        dst: Int64[B], passed over.
        negatives: Passed over.
        labels: Of the batch.
    """
    assert labels is not None
    return Queries(labels.node, labels.event, t=labels.t)


def ask_labelled_events(src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None) -> Queries:
    """Returns the queries of the events that have labels: all their sources, and then all their destinations.

    Args:
        src: Int64[B].
        dst: Int64[B].
        negatives: Passed over.
        labels: Of the batch.
    """
    assert labels is not None
    ends = [end.index_select(0, labels.event) for end in (src, dst)]
    return Queries(torch.cat(ends), labels.event.repeat(2))
