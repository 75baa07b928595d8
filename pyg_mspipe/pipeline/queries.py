"""What a model is asked at the events of a batch: nodes, each as of the moment of an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Queries:
    """``Q`` nodes that are to be embedded.

    Attributes:
        node: Int64[Q].
        event: Int64[Q], positions in the batch of the events at whose times they are asked for.
        both_ends: Whether both ends of every event are surely among the nodes; if not, their memory is read too, since
            the batch updates it.
    """

    node: Tensor
    event: Tensor
    both_ends: bool = False


Ask = Callable[[Tensor, Tensor, Tensor], Queries]
"""Returns what is asked at ``B`` events: of sources, Int64[B], destinations, Int64[B], and negatives, Int64[K, B]."""


def ask_pairs(src: Tensor, dst: Tensor, negatives: Tensor) -> Queries:
    """Returns the queries of pairs: all sources, all destinations, and set after set of negatives.

    Args:
        src: Int64[B].
        dst: Int64[B].
        negatives: Int64[K, B], ``K`` other destinations for each event; ``K`` may be 0.
    """
    event = torch.arange(src.numel(), device=src.device)
    return Queries(torch.cat([src, dst, negatives.reshape(-1)]), event.repeat(2 + negatives.size(0)), both_ends=True)


def ask_sources(src: Tensor, dst: Tensor, negatives: Tensor) -> Queries:
    """Returns the queries of the events' sources alone.

    Args:
        src: Int64[B].
        dst: Int64[B].
        negatives: Int64[K, B], passed over.
    """
    return Queries(src, torch.arange(src.numel(), device=src.device))
