"""Labels of a stream: what is known of nodes or events at certain moments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.files import read_label_columns
from pyg_mspipe.data.stream_folder import num_nodes_of

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


@dataclass(frozen=True)
class Labels:
    """``L`` labels, each asked for at the first event that is not before its moment.

    Attributes:
        event: Int64[L], non-decreasing: the event at which each is asked for.
        node: Int64[L], the node that it is of; the source where it is of an event.
        t: Int64[L], its moment, in the stream's unit.
        y: Int64[L], classes from 0, or Float32[L, C], a number for each class.
        dropped: How many more there were, past the last event.
    """

    event: Tensor
    node: Tensor
    t: Tensor
    y: Tensor
    dropped: int = 0

    def __len__(self) -> int:
        """Returns the number of labels."""
        return self.event.numel()

    @cached_property
    def num_classes(self) -> int:
        """How many classes there are; 2 where all labels are 0 or 1."""
        return int(self.y.size(1) if self.y.dim() == 2 else max(int(self.y.max()) + 1, 2))

    @cached_property
    def _order(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        order: np.ndarray[tuple[int], np.dtype[np.int64]] = self.event.cpu().numpy()
        return order

    def rows(self, events: range) -> slice:
        """Returns which labels are asked for at some events.

        Args:
            events: The event ids.
        """
        return slice(*np.searchsorted(self._order, [events.start, events.stop]).tolist())

    def count(self, events: range) -> int:
        """Returns how many labels are asked for at some events.

        Args:
            events: The event ids.
        """
        rows = self.rows(events)
        return int(rows.stop - rows.start)

    def of(self, events: range) -> Labels:
        """Returns the labels that are asked for at some events, whose numbers then count from the first of these.

        Args:
            events: The event ids.
        """
        rows = self.rows(events)
        return Labels(self.event[rows] - events.start, self.node[rows], self.t[rows], self.y[rows])

    def to(self, device: torch.device) -> Labels:
        """Returns the same labels on a device.

        Args:
            device: The device.
        """
        return replace(self, **{name: getattr(self, name).to(device) for name in ("event", "node", "t", "y")})

    @staticmethod
    def of_stream(data: TemporalData) -> Labels:
        """Returns the labels that the events of a stream carry, each of its event and of the event's source.

        An event whose label is not a number has none.

        Args:
            data: The stream; ``data.y`` is Int64[E], classes from 0, or [E, C], a number for each class.

        Raises:
            StreamError: If the stream has no labels, or what it has are not classes.
        """
        if "y" not in data:
            raise StreamError("the stream has no labels; name their column with --label, or give a file with --labels")
        y, event = _classes(data.y, "event {}: y"), torch.arange(data.num_events, device=data.src.device)
        known = ~data.y.isnan().view(data.num_events, -1).any(dim=1)
        return Labels(event[known], data.src[known], data.t[known], y[known])

    @staticmethod
    def at(data: TemporalData, node: Tensor, t: Tensor, y: Tensor) -> Labels:
        """Returns labels of nodes that have moments of their own; all events before its moment are known to each.

        Args:
            data: The stream.
            node: Int64[L].
            t: Int64[L], in the stream's unit and in any order.
            y: [L], classes from 0, or [L, C], a number for each class.

        Raises:
            StreamError: If a node does not occur in the stream, or the labels are not classes.
        """
        num_nodes = num_nodes_of(data)
        odd = ((node < 0) | (node >= num_nodes)).nonzero()
        if odd.numel():
            row = int(odd[0])
            raise StreamError(f"label {row}: node {int(node[row])} has no event in the stream; drop the label")
        if bool(y.isnan().any()):
            row = int(y.isnan().view(len(y), -1).any(dim=1).nonzero()[0])
            raise StreamError(f"label {row}: y is not a number; fill it in or drop the label")
        order = t.argsort(stable=True)
        node, t, y = node[order], t[order], _classes(y, "label {}: y")[order]
        event = torch.searchsorted(data.t, t)
        known = event < data.num_events
        return Labels(event[known], node[known], t[known], y[known], dropped=int((~known).sum()))


def read_labels(path: Path, data: TemporalData, *, time_scale: float | None = None) -> Labels:
    """Returns the labels of nodes that a file holds, with moments of their own.

    Args:
        path: A file in a format of streams, with the columns ``node``, ``t`` and ``y``; or ``y_0``, ``y_1`` and so on
            for a number for each class.
        data: The stream.
        time_scale: What the stream's times were multiplied by, and the labels' are.

    Raises:
        StreamError: If the file cannot be read, or the labels do not fit the stream.
    """
    node, t, y = read_label_columns(path, time_scale=time_scale)
    try:
        return Labels.at(data, node, t, y)
    except StreamError as error:
        raise StreamError(*(f"{path}: {problem}" for problem in error.problems)) from None


def _classes(y: Tensor, place: str) -> Tensor:
    """Returns labels as classes, Int64[L], or numbers for classes, Float32[L, C]; what is not a number becomes 0."""
    if y.dim() == 2:
        return y.nan_to_num().float()
    if y.is_floating_point():
        # From 2 / eps on, whole numbers are skipped.
        odd = (y < 0) | (y >= 2.0 / torch.finfo(y.dtype).eps) | (y.isfinite() & (y != y.trunc()))
    else:
        odd = y.to(torch.int64) < 0  # torch does not compare unsigned integers; those past int64 become negative
    if y.dtype != torch.bool and bool(odd.any()):
        row = int(odd.nonzero()[0])
        raise StreamError(f"{place.format(row)} is {y[row].item()}; labels are classes, whole numbers from 0")
    return y.nan_to_num().long() if y.is_floating_point() else y.long()
