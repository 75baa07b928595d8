"""APAN (Wang et al. 2021): mails are delivered at commit, and attention over a node's mailbox makes its row.

Mails, at the commit of a batch, for each event ``(u, v, t, e)``, with rows ``s'`` as computed in the batch, detached:

* ``u`` gets ``[s'_u, s'_v, e]`` and ``v`` gets ``[s'_v, s'_u, e]``, with time ``t``.
* The up to ``fan_out`` most recent neighbours of ``u``, as of before the batch, get the mail of ``u``; those of ``v``
  that of ``v``.
* A node gets one mail of a batch: the last by time. Of equal times the one of the last event counts. Of one event that
  reaches the node in several roles the first of these counts: as its source, as its destination, as a neighbour of its
  source, as a neighbour of its destination.
* The ring holds the last ``num_mails`` mails and advances once for each node that got one.

A mail stays in the ring after it was read, and is read again by every later batch until it is displaced. So nothing
waits to be applied: settling does nothing, and evaluation mode does what training mode does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from oracles.events import Query, Stream
from oracles.memory import Oracle
from oracles.parts import Params, Shapes, layer_norm, linear, linear_shapes, norm_shapes, phi

TimeOf = Callable[[Stream, range, int], float]
"""Returns ``t_q``: the time from which a batch, given by its events, looks back at the mails of a node."""


def time_of_first_event(stream: Stream, events: range, node: int) -> float:
    """Returns the time of the batch's first event, for every node."""
    return stream.events[events.start].t


def apan_shapes(msg_dim: int, memory_dim: int, time_dim: int) -> Shapes:
    """Returns the shapes of APAN's parameters: ``memory.norm`` stands in the updater, ``norm`` before the task."""
    mail = 2 * memory_dim + msg_dim + time_dim
    return (
        linear_shapes("memory.time_enc.lin", 1, time_dim)
        | linear_shapes("memory.lin_query", memory_dim, memory_dim)
        | linear_shapes("memory.lin_key", mail, memory_dim)
        | linear_shapes("memory.lin_value", mail, memory_dim)
        | linear_shapes("memory.lin_out", memory_dim, memory_dim)
        | norm_shapes("memory.norm", memory_dim)
        | norm_shapes("norm", memory_dim)
    )


class APANOracle(Oracle):
    """APAN.

    * ``q = W_q s_u``; of each filled place ``j`` of the mailbox ``k_j, v_j = W_k|W_v [mail_j, phi(t_q - t_j)]``.
    * In each head ``alpha = softmax_j LeakyReLU_0.2(q . k_j)``, without any scale. Without mails the sum below is 0.
    * ``s'_u = ReLU(W LN(sum_j alpha_j v_j + s_u))``, and ``z_u = LN(s'_u)``.
    * A commit stores ``s'_u`` of the nodes of the batch's events, and for ``last_update`` the time of the last of them,
      the batch's own; nodes that are only recipients keep both.

    Args:
        params: See :func:`apan_shapes`.
        stream: The stream.
        heads: Of the attention over mails.
        num_mails: Places in a mailbox.
        fan_out: To how many neighbours of each end a mail goes.
        time_of: Gives ``t_q``.
        begin: The first event that the memory sees.
    """

    def __init__(
        self,
        params: Params,
        stream: Stream,
        *,
        heads: int = 2,
        num_mails: int = 10,
        fan_out: int = 10,
        time_of: TimeOf = time_of_first_event,
        begin: int = 0,
    ) -> None:
        super().__init__(params, stream, begin=begin)
        self.heads, self.num_mails, self.fan_out, self.time_of = heads, num_mails, fan_out, time_of
        width = params["memory.lin_query.weight"].size(0)
        self.rows = [params["memory.lin_query.weight"].new_zeros(width).detach() for _ in range(stream.num_nodes)]
        self.times = [0] * stream.num_nodes
        self.mails: list[list[tuple[Tensor, int]]] = [[] for _ in range(stream.num_nodes)]  # oldest first
        self._seen: dict[int, Tensor] = {}

    def updated(self, node: int, t: float) -> Tensor:
        """Returns the row of a node after its mails, seen from a time; stores nothing."""
        row, mails = self.rows[node], self.mails[node]
        summed = torch.zeros_like(row)
        if mails:
            query = linear(self.params, "memory.lin_query", row).chunk(self.heads)
            inputs = [torch.cat([mail, phi(self.params, "memory.time_enc", t - sent)]) for mail, sent in mails]
            keys = [linear(self.params, "memory.lin_key", x).chunk(self.heads) for x in inputs]
            values = [linear(self.params, "memory.lin_value", x).chunk(self.heads) for x in inputs]
            parts = []
            for head in range(self.heads):
                score = torch.stack([leaky_relu(query[head] @ key[head], 0.2) for key in keys])
                alpha = score.softmax(0)
                parts.append(sum(alpha[j] * value[head] for j, value in enumerate(values)))
            summed = torch.cat(parts)
        return linear(self.params, "memory.lin_out", layer_norm(self.params, "memory.norm", summed + row)).relu()

    def seen(self, node: int, events: range) -> Tensor:
        """Returns the row of a node that a batch computes."""
        if node not in self._seen:
            self._seen[node] = self.updated(node, self.time_of(self.stream, events, node))
        return self._seen[node]

    def batch(self, events: range, queries: Sequence[Query]) -> Tensor:
        self._seen = {}
        return torch.stack([layer_norm(self.params, "norm", self.seen(query.node, events)) for query in queries])

    def deliveries(self, events: range) -> dict[int, tuple[Tensor, int]]:
        """Returns the mail of a batch, and its time, that each recipient gets."""
        got = {}
        for e_id in events:
            event = self.stream.events[e_id]
            s_src, s_dst = (self.seen(end, events).detach() for end in (event.src, event.dst))
            to_src = torch.cat([s_src, s_dst, event.msg]), event.t
            to_dst = torch.cat([s_dst, s_src, event.msg]), event.t
            # What is put last counts: the last event's, and of one event the source's own.
            for _, neighbour in self.stream.recent(event.dst, events.start, self.fan_out):
                got[neighbour] = to_dst
            for _, neighbour in self.stream.recent(event.src, events.start, self.fan_out):
                got[neighbour] = to_src
            got[event.dst] = to_dst
            got[event.src] = to_src
        return got

    @torch.no_grad()
    def commit(self, events: range) -> None:
        got = self.deliveries(events)
        new = {node: self.seen(node, events).detach() for node in self.stream.touched(events)}
        for node, row in new.items():
            last = self.stream.last_event(node, events.start, events.stop)
            self.rows[node], self.times[node] = row, last.t
        for node, mail in got.items():
            self.mails[node] = [*self.mails[node], mail][-self.num_mails :]
        self._seen = {}

    def state(self) -> dict[str, Tensor]:
        """Returns rows and times, and the mails of each node from the oldest to the latest, with zeros after them.

        ``mail`` is [N, M, 2 D + F], ``mail_time`` Int64[N, M] and ``num_mails`` Int64[N]: how many places are filled.
        Where in a ring the oldest one lies is not for the comparison.
        """
        size = len(self.mails), self.num_mails
        mail = self.rows[0].new_zeros(*size, 2 * self.rows[0].numel() + self.stream.msg_dim)
        mail_time = torch.zeros(size, dtype=torch.long)
        for node, mails in enumerate(self.mails):
            for place, (content, t) in enumerate(mails):
                mail[node, place], mail_time[node, place] = content, t
        return {
            "memory": torch.stack(self.rows),
            "last_update": torch.tensor(self.times),
            "mail": mail,
            "mail_time": mail_time,
            "num_mails": torch.tensor([len(mails) for mails in self.mails]),
        }
