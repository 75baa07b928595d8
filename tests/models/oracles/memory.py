"""What a model of a stream does with batches, and the rules of a memory whose nodes keep their last message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from oracles.events import Event, Query, Stream
from oracles.parts import Params

NoMessage = Literal["cell", "keep"]
"""The row of a node for which no message waits: the cell's answer to a message of zeros, or what it was."""


class Oracle(ABC):
    """A model of a stream, one node at a time. A batch is a range of event numbers, and batches come in order.

    Args:
        params: Parameters by name; see each model.
        stream: The stream, with messages of the parameters' dtype.
        begin: The first event that the memory sees; neighbours may be older.

    Attributes:
        training: Whether it is in training mode, at first true; set it after :meth:`settle`.
    """

    def __init__(self, params: Params, stream: Stream, *, begin: int = 0) -> None:
        self.params = params
        self.stream = stream
        self.begin = begin
        self.training = True

    @abstractmethod
    def batch(self, events: range, queries: Sequence[Query]) -> Tensor:
        """Returns what the task sees of each query, [Q, D], with gradients; changes nothing."""

    @abstractmethod
    def commit(self, events: range) -> None:
        """Takes a batch's events into the state, with the rows that :meth:`batch` has computed for it last."""

    def settle(self) -> None:  # noqa: B027  a model without waiting messages has nothing to do
        """Applies all messages that wait, as evaluation wants it."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Returns the state of all nodes, [N, ...] each, by the package's names."""


class LastMessageOracle(Oracle):
    """A memory of rows ``s_u`` and times ``t_u``, where each node's latest event waits as a message.

    In training mode what waits for a node is its latest event before the batch. The row that the model reads is the
    row after that message, from the stored rows at both ends; its time is the event's, or 0 if there is none.
    A commit stores these for the nodes of the batch's own events. In evaluation mode nothing waits: rows are read as
    they are stored, and a commit applies to each node of the batch's events its last one, from the rows before.

    Args:
        params: As for :class:`Oracle`.
        stream: As for :class:`Oracle`.
        width: Of the rows.
        begin: As for :class:`Oracle`.
        no_message: What becomes of the row of a node for which no message waits.
    """

    def __init__(
        self, params: Params, stream: Stream, width: int, *, begin: int = 0, no_message: NoMessage = "cell"
    ) -> None:
        super().__init__(params, stream, begin=begin)
        self.no_message = no_message
        self.rows = [next(iter(params.values())).new_zeros(width).detach() for _ in range(stream.num_nodes)]
        self.times = [0] * stream.num_nodes
        self.end = self.settled = begin
        self._seen: dict[int, tuple[Tensor, int]] = {}

    @abstractmethod
    def message(self, node: int, event: Event, bound: int) -> Tensor:
        """Returns the message to a node from an event, by the stored rows, where events below the bound are known."""

    @abstractmethod
    def cell(self, message: Tensor | None, row: Tensor) -> Tensor:
        """Returns a row after a message; none is a message of zeros."""

    @abstractmethod
    def embed(self, query: Query, events: range) -> Tensor:
        """Returns what the task sees of a query of a batch."""

    def updated(self, node: int, event: Event | None, bound: int) -> tuple[Tensor, int]:
        """Returns a node's row and time after an event, or where there is none; stores nothing."""
        row = self.rows[node]
        if event is None:
            return row if self.no_message == "keep" else self.cell(None, row), 0
        return self.cell(self.message(node, event, bound), row), event.t

    def seen(self, node: int, events: range) -> tuple[Tensor, int]:
        """Returns the row and the time of a node that a batch reads."""
        if not self.training:
            return self.rows[node], self.times[node]
        if node not in self._seen:
            waiting = self.stream.last_event(node, self.begin, events.start)
            self._seen[node] = self.updated(node, waiting, events.start)
        return self._seen[node]

    def batch(self, events: range, queries: Sequence[Query]) -> Tensor:
        self._seen = {}
        return torch.stack([self.embed(query, events) for query in queries])

    def to_store(self, node: int, events: range) -> tuple[Tensor, int]:
        """Returns the row and the time of a node that a batch's commit stores."""
        if self.training:
            return self.seen(node, events)
        return self.updated(node, self.stream.last_event(node, events.start, events.stop), events.start)

    @torch.no_grad()
    def commit(self, events: range) -> None:
        self._store({node: self.to_store(node, events) for node in self.stream.touched(events)})
        self.end = events.stop
        if not self.training:
            self.settled = self.end

    @torch.no_grad()
    def settle(self) -> None:
        if self.settled < self.end:
            waiting = [self.stream.last_event(node, self.begin, self.end) for node in range(self.stream.num_nodes)]
            self._store({node: self.updated(node, event, self.end) for node, event in enumerate(waiting)})
            self.settled = self.end

    def _store(self, new: dict[int, tuple[Tensor, int]]) -> None:
        for node, (row, t) in new.items():
            self.rows[node], self.times[node] = row.detach(), t
        self._seen = {}

    def state(self) -> dict[str, Tensor]:
        return {"memory": torch.stack(self.rows), "last_update": torch.tensor(self.times)}
