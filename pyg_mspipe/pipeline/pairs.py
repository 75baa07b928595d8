"""What stage 1 finds of the pairs that are scored, beside the neighbourhoods of their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.graph.common_neighbors import CommonNeighborFinder, CommonNeighbors
from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.graph.pair_features import PairFeatures


@dataclass(frozen=True)
class Pairs:
    """What is known of the ``C = 1 + K`` pairs of each of ``B`` events: the event's own, and those of its negatives.

    What stands where a negative is missing means nothing.

    Attributes:
        features: Float32[C, B, 12], see :class:`~pyg_mspipe.graph.PairFeatures`; none where the task reads none.
        common: Common neighbours; none where the task reads none.
    """

    features: Tensor | None = None
    common: CommonNeighbors | None = None

    def blocks(self, events: int, num_pairs: int, count: int) -> Iterator[Pairs]:
        """Yields what is known of the pairs of consecutive blocks of events.

        Args:
            events: Events in a block.
            num_pairs: Pairs of an event, ``C``.
            count: How many blocks there are.
        """
        features = repeat(None, count) if self.features is None else self.features.split(events, dim=1)
        common = repeat(None, count) if self.common is None else self.common.blocks(events * num_pairs, count)
        yield from map(Pairs, features, common)


@dataclass(frozen=True)
class PairReader:
    """Finds what is known of the pairs of a batch: a function of ids and times alone.

    Attributes:
        features: Computes their features, if wanted.
        common: Finds their common neighbours, if wanted.
    """

    features: PairFeatures | None = None
    common: CommonNeighborFinder | None = None

    def __call__(
        self, src: Tensor, dst: Tensor, t: Tensor, negatives: Negatives, bound: Tensor | int, sample: NeighborSample
    ) -> tuple[Pairs, NeighborSample]:
        """Returns what is known of a batch's pairs, and its sample with the nodes that scores read beside it.

        Args:
            src: Int64[B], of the batch's events.
            dst: Int64[B].
            t: Int64[B], in the stream's unit.
            negatives: Of the events.
            bound: Int64[B] or one number for all, the first event that is not seen.
            sample: What the batch reads so far.
        """
        others, sources = negatives.dst, src
        if negatives.padded:
            others = others.clamp(min=0)
        if negatives.src is not None:
            sources = torch.cat([src.unsqueeze(0), negatives.src.clamp(min=0)])
        dst = torch.cat([dst.unsqueeze(0), others])
        features = None if self.features is None else self.features(sources, dst, t, bound)
        if self.common is None:
            return Pairs(features), sample
        common = self.common(sources, dst, bound)
        sample = sample.including(common.node)
        return Pairs(features, common.within(sample.n_id)), sample
