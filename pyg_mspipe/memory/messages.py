"""Pending messages: for every node, all messages of its last batch in each role, kept in tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pyg_mspipe.graph.segment import segment_argmax

TieRule = Literal["first", "last", "event"]
"""Which of a node's messages of equal time counts as the latest.

The first or the last in the order in which PyG lists them, the source role before the destination role and within a
role in the order of events; or that of the last event, which a self-loop leaves in the destination role.
"""


@dataclass(frozen=True)
class PendingMessages:
    """Messages that wait to be applied to ``U`` nodes: those received as source first, then those as destination.

    Attributes:
        row: Int64[M], which of the ``U`` nodes receives the message.
        other: Int64[M], node at the other end of the event.
        t: Int64[M], time of the event.
        raw_msg: [M, raw_msg_dim].
        num_source: How many of the ``M`` were received as source.
    """

    row: Tensor
    other: Tensor
    t: Tensor
    raw_msg: Tensor
    num_source: int


@dataclass(frozen=True)
class LatestMessages:
    """The one message of each of ``U`` nodes that is latest in time.

    Attributes:
        valid: Bool[U], whether the node has any message; the other fields mean nothing where it is false.
        is_source: Bool[U], whether the node was the event's source.
        other: Int64[U], node at the other end of the event.
        t: Int64[U], time of the event.
        raw_msg: [U, raw_msg_dim].
    """

    valid: Tensor
    is_source: Tensor
    other: Tensor
    t: Tensor
    raw_msg: Tensor


class MessageStore:
    """Keeps, for each node and role (source, destination), the messages of the last batch that touched it.

    Events are appended to a log that is written once and shared by both roles; a node points at its run of log entries.
    When the log is full, the events that nobody points at any more are dropped. The capacity is chosen so that this
    costs O(1) per event on average, whatever the number of nodes.

    Args:
        num_nodes: Number of nodes ``N``.
        raw_msg_dim: Width of the raw messages; may be 0.
        dtype: The dtype of the raw messages.
        device: Where the messages are kept.
        tie: Which of a node's messages of equal time counts as the latest.
    """

    def __init__(
        self, num_nodes: int, raw_msg_dim: int, *, dtype: torch.dtype, device: torch.device, tie: TieRule
    ) -> None:
        self.tie = tie
        self._start = torch.zeros(2, num_nodes, dtype=torch.long, device=device)
        self._count = torch.zeros(2, num_nodes, dtype=torch.long, device=device)
        self._latest = torch.full((2, num_nodes), -1, dtype=torch.long, device=device)
        # One row at least, so that a gather at a clamped index is always valid.
        self._events = {
            "src": torch.zeros(1, dtype=torch.long, device=device),
            "dst": torch.zeros(1, dtype=torch.long, device=device),
            "t": torch.zeros(1, dtype=torch.long, device=device),
            "raw_msg": torch.zeros(1, raw_msg_dim, dtype=dtype, device=device),
        }
        self._entries = torch.zeros(2, dtype=torch.long, device=device)
        # How many events and entries there are; on the CPU, where reading them waits for nothing.
        self._used = torch.zeros(2, dtype=torch.long, device="cpu")

    @property
    def num_nodes(self) -> int:
        """The number of nodes ``N``."""
        return self._count.size(1)

    @property
    def raw_msg_shape(self) -> tuple[int, ...]:
        """The shape of a raw message."""
        return tuple(self._events["raw_msg"].shape[1:])

    @property
    def _num_events(self) -> int:
        return int(self._used[0])

    @property
    def capacity(self) -> int:
        """How many events fit before the log is compacted or grows."""
        return self._events["t"].numel()

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> MessageStore:
        """Returns the store with its tensors on ``device`` and its raw messages of ``dtype``."""
        out = object.__new__(MessageStore)
        out.tie = self.tie
        out._start, out._count, out._latest, out._entries = (
            x.to(device) for x in (self._start, self._count, self._latest, self._entries)
        )
        out._events = {name: x.to(device) for name, x in self._events.items()}
        out._events["raw_msg"] = out._events["raw_msg"].to(dtype)
        out._used = self._used
        return out

    def clear(self) -> None:
        """Forgets all messages."""
        self._count.zero_()
        self._latest.fill_(-1)
        self._used.zero_()

    def latest_time(self) -> int | None:
        """Returns the time of the last event that was appended and is still in the log; none if there is none."""
        return int(self._events["t"][: self._num_events].max()) if self._num_events else None

    @torch.inference_mode(False)
    def append(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None:
        """Replaces the messages of all nodes in ``src``, in their role as source, and in ``dst``, as destination.

        Args:
            src: Int64[B].
            dst: Int64[B].
            t: Int64[B].
            raw_msg: [B, raw_msg_dim]; kept without its gradient.
        """
        size = src.numel()
        begin, num_entries = self._used.tolist()
        if begin + size > self.capacity:
            self._compact(size)
            begin, num_entries = self._used.tolist()
        for name, value in (("src", src), ("dst", dst), ("t", t), ("raw_msg", raw_msg.detach())):
            self._events[name][begin : begin + size] = value
        nodes, event, ptr = _by_end(src, dst, self.num_nodes)
        latest = event[_latest(t, event, ptr, self.tie)] + begin
        self._entries[num_entries : num_entries + 2 * size] = event + begin
        self._start.view(-1)[nodes] = ptr[:-1] + num_entries
        self._count.view(-1)[nodes] = ptr.diff()
        self._latest.view(-1)[nodes] = latest
        self._used += torch.tensor([size, 2 * size], device="cpu")

    def pending(self, n_id: Tensor) -> PendingMessages:
        """Returns all messages of the nodes ``n_id``: Int64[U], unique."""
        rows, entries = zip(*(self._expand(role, n_id) for role in (0, 1)), strict=True)
        event = torch.cat(entries)
        num_source = rows[0].numel()
        return PendingMessages(
            row=torch.cat(rows),
            other=torch.cat([self._events["dst"][event[:num_source]], self._events["src"][event[num_source:]]]),
            t=self._events["t"][event],
            raw_msg=self._events["raw_msg"].index_select(0, event),
            num_source=num_source,
        )

    def latest(self, n_id: Tensor) -> LatestMessages:
        """Returns the latest message of each of the nodes ``n_id``: Int64[U]."""
        as_src, as_dst = self._latest[0].index_select(0, n_id), self._latest[1].index_select(0, n_id)
        t_src = self._events["t"].index_select(0, as_src.clamp(min=0))
        t_dst = self._events["t"].index_select(0, as_dst.clamp(min=0))
        if self.tie == "event":
            later = (t_src > t_dst) | ((t_src == t_dst) & (as_src > as_dst))
        else:
            later = t_src > t_dst if self.tie == "last" else t_src >= t_dst
        is_source = (as_src >= 0) & (later | (as_dst < 0))
        event = torch.where(is_source, as_src, as_dst)
        valid = event >= 0
        event = event.clamp(min=0)
        return LatestMessages(
            valid=valid,
            is_source=is_source,
            other=torch.where(
                is_source,
                self._events["dst"].index_select(0, event),
                self._events["src"].index_select(0, event),
            ),
            t=torch.where(is_source, t_src, t_dst),
            raw_msg=self._events["raw_msg"].index_select(0, event),
        )

    def state(self) -> dict[str, Tensor]:
        """Returns copies of the live messages as a flat dictionary of tensors, for a checkpoint."""
        entries, events = self._live()
        state = {f"messages.{name}": value[events] for name, value in self._events.items()}
        state["messages.entries"] = entries
        state["messages.count"] = self._count.clone()
        return state

    @torch.inference_mode(False)
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`state` gave, from any device."""
        device = self._count.device
        size = state["messages.t"].numel()
        self._count = state["messages.count"].to(device).clone()
        for name, value in self._events.items():
            loaded = state[f"messages.{name}"].to(device, value.dtype)
            self._events[name] = loaded.clone() if size else torch.zeros_like(value[:1])
        self._used[0] = size
        self._place(state["messages.entries"].to(device))

    def _expand(self, role: int, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the row and the log position of every message of ``n_id`` in one role, in row order."""
        count = self._count[role][n_id]
        row = torch.arange(n_id.numel(), device=n_id.device).repeat_interleave(count)
        within = torch.arange(row.numel(), device=n_id.device) - (count.cumsum(0) - count)[row]
        return row, self._entries[self._start[role][n_id][row] + within]

    def _live(self) -> tuple[Tensor, Tensor]:
        """Returns the entries that some node points at, renumbered, and the log positions of the events they name."""
        nodes = torch.arange(self.num_nodes, device=self._count.device)
        entries = torch.cat([self._expand(role, nodes)[1] for role in (0, 1)])
        alive = torch.zeros(self._num_events, dtype=torch.bool, device=entries.device)
        alive[entries] = True
        return (alive.cumsum(0) - 1)[entries], alive.nonzero().view(-1)

    def _place(self, entries: Tensor) -> None:
        """Makes ``entries``, node by node and role by role, the whole entry list."""
        end = self._count.view(-1).cumsum(0).view_as(self._count)
        self._start = end - self._count
        self._used[1] = entries.numel()
        room = entries.new_zeros(max(2 * self.capacity - entries.numel(), 0))
        self._entries = torch.cat([entries, room])
        self._latest.fill_(-1)
        for role in (0, 1):
            owner = self._count[role].nonzero().view(-1)
            ptr = torch.cat([self._start[role, owner], end[role, -1:]])
            if owner.numel():
                begin = int(ptr[0])
                own = entries[begin : int(ptr[-1])]
                latest = segment_argmax(self._events["t"][own], ptr - begin, last=self.tie != "first")
                self._latest[role, owner] = own[latest]

    def _compact(self, incoming: int) -> None:
        """Drops what nobody points at and leaves room for ``incoming`` events and as many again as pay for this."""
        for x in (self._start, self._entries, *self._events.values()):
            if x.is_cuda:  # what is replaced below may be another stream's, which could use it again too early
                x.record_stream(torch.cuda.current_stream(x.device))
        entries, events = self._live()
        size = events.numel()
        room = size + max(size, self.num_nodes // 4, 8 * incoming)
        for name, value in self._events.items():
            live = value[events]
            spare = value.new_zeros(max(room - size, 0), *value.shape[1:])
            self._events[name] = torch.cat([live, spare])
        self._used[0] = size
        self._place(entries)


def latest_by_end(src: Tensor, dst: Tensor, t: Tensor, num_nodes: int, tie: TieRule) -> tuple[Tensor, Tensor]:
    """Returns which nodes take part in a batch's events and the latest event of each: Int64[P] each.

    A node as source stands as its number, as destination as that plus ``num_nodes``.

    Args:
        src: Int64[B].
        dst: Int64[B].
        t: Int64[B].
        num_nodes: Larger than all numbers of nodes.
        tie: Which of events at the same time counts as the latest.
    """
    ends, event, ptr = _by_end(src, dst, num_nodes)
    return ends, event[_latest(t, event, ptr, tie)]


def _by_end(src: Tensor, dst: Tensor, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the nodes that take part, their events in order, and where each node's begin: both roles in one pass."""
    ends, order = torch.cat([src, dst + num_nodes]).sort(stable=True)
    nodes, count = ends.unique_consecutive(return_counts=True)
    event = order.remainder(src.numel()) if src.numel() else order
    return nodes, event, torch.cat([count.new_zeros(1), count.cumsum(0)])


def _latest(t: Tensor, event: Tensor, ptr: Tensor, tie: TieRule) -> Tensor:
    """Returns the position in ``event`` of each node's latest."""
    if tie != "first" and bool((t[1:] >= t[:-1]).all()):
        return ptr[1:] - 1
    return segment_argmax(t.index_select(0, event), ptr, last=tie != "first")
