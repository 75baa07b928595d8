"""How events stand among their negatives, of the scores of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """What metrics need to know of the scores of ``B`` events and their negatives, whose number does not matter here.

    Attributes:
        rank: Float32[B], 1 plus the number of negatives with a higher score plus half the number of those with an
            equal one, which is TGB's rule; 1 where there are no negatives.
        num_negatives: Int64[B], negatives of each event.
        pair: [2, B], the scores of the events and of the first negative of each; -inf where there is none.

    Example:
        >>> import torch
        >>> from pyg_mspipe.tasks import Ranking
        >>> missing = -torch.inf
        >>> Ranking.of(torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, missing], [0.0, missing, missing]])).rank
        tensor([2.0000, 1.5000, 1.0000])
    """

    rank: Tensor
    num_negatives: Tensor
    pair: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Ranking:
        """Returns the ranking of a batch.

        Args:
            scores: [1 + K, B], the events' own in row 0; -inf where an event has fewer than ``K`` negatives, after
                those that it has.
        """
        own, others = scores[0], scores[1:]
        above = (others > own).sum(dim=0)
        level = (others == own).sum(dim=0)
        first = others[0] if len(others) else torch.full_like(own, -torch.inf)
        # What is no number has no rank, and is seen in it.
        rank = (1 + above + level / 2).masked_fill_(scores.isnan().any(dim=0), torch.nan)
        return cls(rank, (others > -torch.inf).sum(dim=0), torch.stack([own, first]))

    @classmethod
    def from_table(cls, table: Tensor) -> Ranking:
        """Returns the ranking that :attr:`table` gave.

        Args:
            table: Float32[4, B].
        """
        return cls(table[0], table[1].long(), table[2:])

    @property
    def table(self) -> Tensor:
        """Float32[4, B], ranks, numbers of negatives and pairs as one tensor."""
        return torch.cat([torch.stack([self.rank, self.num_negatives.to(self.rank.dtype)]), self.pair])

    @classmethod
    def together(cls, parts: Sequence[Ranking]) -> Ranking:
        """Returns the ranking of all events of some batches, in their order.

        Args:
            parts: Of each batch, of which there is at least one.
        """
        columns = (torch.cat([getattr(each, name) for each in parts], dim=-1) for name in cls.__dataclass_fields__)
        return cls(*columns)

    def of_events(self, which: Tensor) -> Ranking:
        """Returns the ranking of some of the events.

        Args:
            which: Bool[B].
        """
        return Ranking(self.rank[which], self.num_negatives[which], self.pair[:, which])

    @property
    def reciprocal(self) -> Tensor:
        """Float32[B], one over each rank."""
        return 1 / self.rank

    def hits(self, k: int) -> float:
        """Returns the share of events with a rank of at most ``k``.

        Args:
            k: A rank.
        """
        return float((self.rank <= k).float().mean())
