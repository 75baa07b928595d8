"""The groups of a stream's events that metrics are told apart by: of known nodes, of new ones, and of busy ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.stream_folder import StreamFolder, folder_of, num_nodes_of

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

    from pyg_mspipe.data.splits import StreamSplit


@dataclass(frozen=True)
class EventGroups:
    """Says of any range of a stream's events which have nodes without training events, and how active their nodes are.

    Attributes:
        src: Int64[E], on the CPU.
        dst: Int64[E], on the CPU.
        num_nodes: The largest id plus one.
        train: The training events.
        folder: The folder whose columns the ends are, if there is one: its files tell what else is asked for.

    Example:
        >>> import torch
        >>> from torch_geometric.data import TemporalData
        >>> from pyg_mspipe import StreamSplit
        >>> from pyg_mspipe.data import EventGroups
        >>> src, dst = torch.tensor([[0, 0, 0, 3, 0], [1, 1, 2, 4, 1]])
        >>> data = TemporalData(src=src, dst=dst, t=torch.arange(5))
        >>> groups = EventGroups.of(data, StreamSplit(range(2), range(2, 4), range(4, 5)))
        >>> groups.new_ends(range(2, 5)), groups.activity(range(2, 5))
        (tensor([1, 2, 0]), tensor([2, 0, 2]))
    """

    src: Tensor
    dst: Tensor
    num_nodes: int
    train: range
    folder: StreamFolder | None = None

    @classmethod
    def of(cls, data: TemporalData, split: StreamSplit) -> EventGroups:
        """Returns the groups of a stream's events.

        Args:
            data: The stream that was split.
            split: The split of that stream.
        """
        return cls(data["src"].cpu(), data["dst"].cpu(), num_nodes_of(data), split.train, folder_of(data))

    @cached_property
    def _seen(self) -> Tensor:
        """Bool[N], the nodes that a training event touches."""
        seen = torch.zeros(self.num_nodes, dtype=torch.bool)
        for end in (self.src, self.dst):
            seen[end[self.train.start : self.train.stop]] = True
        return seen

    def _is_seen(self, node: Tensor) -> Tensor:
        if self.folder is None or self.train.start:
            return self._seen[node]
        return self.folder.first_event(node) < self.train.stop

    def new_ends(self, events: range) -> Tensor:
        """Returns how many ends of events no training event touches: Int64[B], 0, 1 or 2.

        Events with 0 are transductive, all others inductive, as in TGN and DyGLib; those with 2 are *new-new*.

        Args:
            events: The event ids.
        """
        part = slice(events.start, events.stop)
        return 2 - self._is_seen(self.src[part]).long() - self._is_seen(self.dst[part]).long()

    def activity(self, events: range) -> Tensor:
        """Returns how many events before the first of some events touch the source of each: Int64[B].

        Args:
            events: The event ids.
        """
        if self.folder is not None:
            return self.folder.events_before(self.src[events.start : events.stop], events.start)
        src, dst, num_nodes = self.src[: events.start], self.dst[: events.start], self.num_nodes
        # An event from a node to itself is one event.
        count = src.bincount(minlength=num_nodes) + dst[dst != src].bincount(minlength=num_nodes)
        return count[self.src[events.start : events.stop]]

    def quartile(self, events: range) -> Tensor:
        """Returns in which quarter of some events each stands by its source's activity: Int64[B], from 1, the lowest.

        Events of equal activity stand in the same quarter, so that a quarter may be empty.

        Args:
            events: The event ids.
        """
        activity = self.activity(events)
        cuts = np.quantile(activity.numpy(), (0.25, 0.5, 0.75))
        return 1 + torch.bucketize(activity, torch.from_numpy(cuts))

    def masks(self, events: range) -> dict[str, Tensor]:
        """Returns which of some events belong to each group that has any: Bool[B], by the group's name.

        The groups are ``transductive``, ``inductive``, ``new_new``, which is a part of ``inductive``, and
        ``activity_1``, the least active sources, to ``activity_4``.

        Args:
            events: The event ids, at least one.
        """
        new_ends, quartile = self.new_ends(events), self.quartile(events)
        masks = {"transductive": new_ends == 0, "inductive": new_ends > 0, "new_new": new_ends == 2}
        masks |= {f"activity_{quarter}": quartile == quarter for quarter in range(1, 5)}
        return {name: mask for name, mask in masks.items() if bool(mask.any())}
