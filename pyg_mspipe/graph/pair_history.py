"""The events of each pair of nodes, in a layout in which one binary search finds those before an event."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairHistory:
    """A stream's events grouped by source and destination and, within a pair, ordered by event id.

    A pair is directed: an event from ``u`` to ``v`` is none of ``(v, u)``. Never changed, so any thread may read it.

    Attributes:
        pair: Int64[P], ascending, ``src * N + dst`` of each pair that has met.
        key: Int64[E], ascending, ``p * E + e_id`` of each event, where ``p`` is its pair's position in ``pair``.
        num_nodes: The number of nodes ``N``, below 3 * 10^9, as the number of events is.

    Example:
        >>> import torch
        >>> from pyg_mspipe.graph import PairHistory
        >>> pairs = PairHistory.from_events(torch.tensor([0, 0, 0]), torch.tensor([2, 3, 2]), num_nodes=4)
        >>> src, dst = torch.tensor([0, 0, 2]), torch.tensor([2, 3, 0])
        >>> pairs.count(src, dst, bound=3), pairs.last(src, dst, bound=2)
        (tensor([2, 1, 0]), tensor([ 0,  1, -1]))
    """

    pair: Tensor
    key: Tensor
    num_nodes: int

    @classmethod
    def from_events(cls, src: Tensor, dst: Tensor, num_nodes: int) -> PairHistory:
        """Returns the pairs of some events. O(E log E) time, 8 bytes for an event and 8 for a pair.

        Args:
            src: Int64[E], in the order of event ids.
            dst: Int64[E].
            num_nodes: The number of nodes ``N``.
        """
        pair, position = (src * num_nodes + dst).unique(return_inverse=True)
        e_id = torch.arange(src.numel(), device=src.device)
        return cls(pair, (position * src.numel() + e_id).sort().values, num_nodes)

    @property
    def num_events(self) -> int:
        """The number of events ``E``."""
        return self.key.numel()

    def to(self, device: torch.device | str) -> PairHistory:
        """Returns the same on ``device``."""
        return PairHistory(self.pair.to(device), self.key.to(device), self.num_nodes)

    def find(self, src: Tensor, dst: Tensor, bound: Tensor | int) -> tuple[Tensor, Tensor]:
        """Returns ``(begin, end)``: Int64[...] each, the places in ``key`` of the pairs' events below their bounds.

        Args:
            src: Int64[...].
            dst: Int64[...], which broadcasts against ``src``.
            bound: Int64[...] or one number for all, event ids in ``0..E``.
        """
        wanted = src * self.num_nodes + dst
        if not self.num_events:
            return torch.zeros_like(wanted), torch.zeros_like(wanted)
        at = torch.searchsorted(self.pair, wanted)
        met = self.pair[at.clamp(max=self.pair.numel() - 1)] == wanted
        begin = torch.searchsorted(self.key, at * self.num_events)
        end = torch.searchsorted(self.key, at * self.num_events + bound)
        return begin, torch.where(met, end, begin)

    def count(self, src: Tensor, dst: Tensor, bound: Tensor | int) -> Tensor:
        """Returns how often each pair has met in events with an id below its bound: Int64[...].

        Args:
            src: Int64[...].
            dst: Int64[...], which broadcasts against ``src``.
            bound: Int64[...] or one number for all, event ids in ``0..E``.
        """
        begin, end = self.find(src, dst, bound)
        return end - begin

    def last(self, src: Tensor, dst: Tensor, bound: Tensor | int) -> Tensor:
        """Returns the last event of each pair with an id below its bound: Int64[...], -1 where there is none.

        Args:
            src: Int64[...].
            dst: Int64[...], which broadcasts against ``src``.
            bound: Int64[...] or one number for all, event ids in ``0..E``.
        """
        begin, end = self.find(src, dst, bound)
        if not self.num_events:
            return begin - 1
        e_id = self.key[(end - 1).clamp(min=0)].remainder(self.num_events)
        return torch.where(end > begin, e_id, -1)
