"""Whom a source truly meets at a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.tasks.protocols.spans import items, place

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


@dataclass(frozen=True)
class TrueDestinations:
    """The distinct destinations of each source at each time: ``M`` triples of source, time and destination.

    Everything is kept by ranks, so that ids and times may be any int64. Never changed, so any thread may read it.

    Attributes:
        source: Int64[S], ascending, the sources.
        moment: Int64[T], ascending, the times.
        destination: Int64[D], ascending, the destinations.
        group: Int64[G], ascending, ``rank of source * T + rank of time`` of each that occur together.
        triple: Int64[M], ascending, ``position in group * D + rank of destination``.

    Example:
        >>> import torch
        >>> from pyg_mspipe.tasks.protocols import TrueDestinations
        >>> src, dst, t = torch.tensor([7, 7, 7]), torch.tensor([3, 9, 3]), torch.tensor([10, 10, 20])
        >>> met = TrueDestinations.from_events(src, dst, t)
        >>> met.of(torch.tensor([7, 7]), torch.tensor([20, 10]))
        (tensor([0, 1, 1]), tensor([3, 3, 9]))
        >>> met.contains(torch.tensor(7), torch.tensor(20), torch.tensor([3, 9]))
        tensor([ True, False])
    """

    source: Tensor
    moment: Tensor
    destination: Tensor
    group: Tensor
    triple: Tensor

    @classmethod
    def from_stream(cls, data: TemporalData) -> TrueDestinations:
        """Returns the true destinations of all events of a stream.

        Args:
            data: The stream.
        """
        return cls.from_events(data.src, data.dst, data.t)

    @classmethod
    def from_events(cls, src: Tensor, dst: Tensor, t: Tensor) -> TrueDestinations:
        """Returns the true destinations of some events, in any order. O(E log E) time.

        Args:
            src: Int64[E].
            dst: Int64[E].
            t: Int64[E], in the stream's unit.
        """
        source, by_source = src.cpu().unique(return_inverse=True)
        moment, by_moment = t.cpu().unique(return_inverse=True)
        destination, by_destination = dst.cpu().unique(return_inverse=True)
        group, by_group = (by_source * moment.numel() + by_moment).unique(return_inverse=True)
        triple = (by_group * destination.numel() + by_destination).unique()
        return cls(source, moment, destination, group, triple)

    def of(self, src: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``(row, dst)``: Int64[F] each, the true destinations at each of ``B`` sources and times.

        Args:
            src: Int64[B].
            t: Int64[B].
        """
        group, width = self._group(src, t), self.destination.numel()
        begin = torch.searchsorted(self.triple, group * width)
        end = torch.where(group < 0, begin, torch.searchsorted(self.triple, (group + 1) * width))
        row, at = items(begin, end)
        return row, self.destination[self.triple[at].remainder(max(width, 1))]

    def find(self, src: Tensor, t: Tensor, dst: Tensor) -> Tensor:
        """Returns the places of triples in ``triple``: Int64[...], -1 where there is no such event.

        Args:
            src: Int64[...].
            t: Int64[...], as all three broadcast against each other.
            dst: Int64[...].
        """
        group, rank = self._group(src, t), place(self.destination, dst)
        found = place(self.triple, group * self.destination.numel() + rank)
        return torch.where((group < 0) | (rank < 0), -1, found)

    def contains(self, src: Tensor, t: Tensor, dst: Tensor) -> Tensor:
        """Returns whether there is such an event: Bool[...].

        Args:
            src: Int64[...].
            t: Int64[...], in the stream's unit.
            dst: Int64[...].
        """
        return self.find(src, t, dst) >= 0

    def _group(self, src: Tensor, t: Tensor) -> Tensor:
        """Returns the places of sources and times in ``group``: Int64[...], -1 where they do not occur together."""
        source, moment = place(self.source, src), place(self.moment, t)
        found = place(self.group, source * self.moment.numel() + moment)
        return torch.where((source < 0) | (moment < 0), -1, found)
