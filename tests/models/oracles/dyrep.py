"""DyRep (Trivedi et al. 2019): an RNN whose message holds the attention embedding of the other end.

All variants score with the memory's row ``s'_u``. Their message to ``u`` from an event with ``v`` at ``t`` is
``[s_u, o_v, e, phi(t - t_u)]``, and their row ``RNNCell(message, s_u)`` with tanh. They differ in ``o_v``, by
``other_end``; ``z_v`` is always TGN's embedding of ``v``, of some rows and of the neighbours below some bound.

``"containing"``, the default
    ``z_v`` of the batch that contains the event: of the rows and times that this batch *reads* (in training those
    after the messages that wait, in evaluation the stored ones), and of the neighbours before the batch's first event.
    It is computed at that batch's commit, detached, and kept with the node until the message is applied: a node then
    has a second table, ``other``. So no gradient reaches the attention layers.
``"applying"``
    ``z_v`` of the batch that applies the message: of the rows and times as they are *stored* before that, and of the
    neighbours before the applying batch's first event (when settling: of all committed events). Nothing is kept, and
    a gradient reaches the attention layers.
``"event"``
    As ``"applying"``, but of the neighbours before the event itself.
``"tgb"``
    What the code of TGB's ``DyRepMemory`` does (``use_dst_emb_in_msg=True``; ``examples/linkproppred/*/dyrep.py``). In
    training the rows that a batch *scores* with have ``o_v = s_v``, the stored row. The rows that its commit *stores*
    have for ``o_v`` the applying batch's ``z_v``, of the rows that it scored with, where ``v`` is itself an end of one
    of the batch's events, and ``s_v`` elsewhere. Settling has ``o_v = s_v``. In evaluation ``o_v`` is ``z_v`` of the
    batch that contains the event, which there is the one that applies it. No gradient reaches the attention layers.

A commit computes the embedding of the other end of each node's last event alone; of a self-loop that is ``z_u``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from oracles.events import Event, Query, Stream
from oracles.memory import LastMessageOracle, NoMessage
from oracles.parts import Params, Shapes, attention_shapes, cell_shapes, linear_shapes, phi, rnn, temporal_embedding

OtherEnd = Literal["containing", "applying", "event", "tgb"]


def dyrep_shapes(msg_dim: int, memory_dim: int, time_dim: int, embedding_dim: int, num_layers: int) -> Shapes:
    """Returns the shapes of DyRep's parameters; for ``"tgb"``, embeddings are as wide as rows."""
    return (
        cell_shapes("memory.rnn", memory_dim + embedding_dim + msg_dim + time_dim, memory_dim, gates=1)
        | linear_shapes("memory.time_enc.lin", 1, time_dim)
        | attention_shapes(memory_dim, embedding_dim, time_dim + msg_dim, num_layers)
    )


class DyRepOracle(LastMessageOracle):
    """DyRep, in the variants that the module's docstring tells apart.

    Args:
        params: See :func:`dyrep_shapes`.
        stream: The stream.
        num_neighbors: How many neighbours are taken in each hop; one layer for each.
        heads: Attention heads.
        other_end: What a message holds of the other end.
        begin: The first event that the memory sees.
        no_message: What becomes of the row of a node for which no message waits.
    """

    def __init__(
        self,
        params: Params,
        stream: Stream,
        num_neighbors: Sequence[int],
        *,
        heads: int = 2,
        other_end: OtherEnd = "containing",
        begin: int = 0,
        no_message: NoMessage = "cell",
    ) -> None:
        super().__init__(params, stream, params["memory.rnn.weight_hh"].size(1), begin=begin, no_message=no_message)
        self.num_neighbors = num_neighbors
        self.heads = heads
        self.other_end = other_end
        width = params[f"layers.{len(num_neighbors) - 1}.lin_skip.weight"].size(0)
        self.kept = [self.rows[0].new_zeros(width) for _ in self.rows]
        # Embeddings that the commit in progress puts in place of stored rows: only for "tgb".
        self.instead: dict[int, Tensor] = {}

    def message(self, node: int, event: Event, bound: int) -> Tensor:
        other = event.other_end(node)
        if self.other_end == "containing":
            about_other = self.kept[node]
        elif self.other_end == "tgb":
            about_other = self.instead.get(other, self.rows[other])
        else:
            known = event.e_id if self.other_end == "event" else bound
            about_other = self.attend(other, known, lambda each: (self.rows[each], self.times[each]))
        t_enc = phi(self.params, "memory.time_enc", event.t - self.times[node])
        return torch.cat([self.rows[node], about_other, event.msg, t_enc])

    def cell(self, message: Tensor | None, row: Tensor) -> Tensor:
        if message is None:
            message = row.new_zeros(self.params["memory.rnn.weight_ih"].size(1))
        return rnn(self.params, "memory.rnn", message, row)

    def embed(self, query: Query, events: range) -> Tensor:
        return self.seen(query.node, events)[0]

    def attend(self, node: int, bound: int, read: Callable[[int], tuple[Tensor, int]]) -> Tensor:
        """Returns the attention embedding of a node, of the rows and times that ``read`` gives."""
        return temporal_embedding(
            self.params,
            self.stream,
            node,
            bound,
            num_neighbors=self.num_neighbors,
            heads=self.heads,
            time_enc="memory.time_enc",
            row=lambda each: read(each)[0],
            elapsed=lambda event, other: read(other)[1] - event.t,
        )

    @torch.no_grad()
    def commit(self, events: range) -> None:
        nodes = self.stream.touched(events)
        z = {node: self.attend(node, events.start, lambda each: self.seen(each, events)) for node in nodes}
        last = {node: self.stream.last_event(node, events.start, events.stop) for node in nodes}
        kept = {node: z[event.other_end(node)] for node, event in last.items()}
        if self.other_end == "tgb":
            self.instead = z
        if not self.training:  # the batch applies its own events
            self._keep(kept)
        super().commit(events)
        if self.training:
            self._keep(kept)
        self.instead = {}

    def to_store(self, node: int, events: range) -> tuple[Tensor, int]:
        if self.training and self.other_end == "tgb":
            return self.updated(node, self.stream.last_event(node, self.begin, events.start), events.start)
        return super().to_store(node, events)

    def _keep(self, z: dict[int, Tensor]) -> None:
        for node, each in z.items():
            self.kept[node] = each.detach()

    def state(self) -> dict[str, Tensor]:
        kept = {"other": torch.stack(self.kept)} if self.other_end == "containing" else {}
        return super().state() | kept
