"""APAN: mailboxes that events are delivered to, so that nothing is sampled where nodes are asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import LayerNorm

from pyg_mspipe.graph.row_sums import gather_rows
from pyg_mspipe.memory import MailMemory, Mitigation, TimeInit
from pyg_mspipe.models.memory_model import MemoryModel
from pyg_mspipe.pipeline.batch import Batch


class APAN(MemoryModel):
    """The Asynchronous Propagation Attention Network (Wang et al. 2021, arXiv 2011.11545), as TGL builds it.

    Its memory is a :class:`~pyg_mspipe.memory.MailMemory`, and a node's embedding the layer norm of its row. Neighbours
    are looked up only for the delivery of mails, when an event is committed.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages; may be 0.
        node_dim: Width of the nodes' features, which a projection brings to the memory's width, to be added to its
            rows; 0 without any.
        memory_dim: Width of the memory and of the embeddings.
        time_dim: Width of the time encoding.
        heads: Heads of the attention over mails.
        dropout: Dropout of new rows.
        time_init: Where the time encoder starts, see :class:`~pyg_mspipe.memory.TimeEncoder`.
        num_mails: Places of a mailbox.
        fan_out: How many recent neighbours of an end get its mail.
        memory_device: Where node memory is kept, by default with the weights.
        mitigation: Repairs stale rows of the memory; by default there is none.
    """

    num_hops = 0
    reads_moment = False
    paddable = True

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        *,
        node_dim: int = 0,
        memory_dim: int = 100,
        time_dim: int = 100,
        heads: int = 2,
        dropout: float = 0.1,
        time_init: TimeInit = "random",
        num_mails: int = 10,
        fan_out: int = 10,
        memory_device: torch.device | str | None = None,
        mitigation: Mitigation | None = None,
    ) -> None:
        memory = MailMemory(
            num_nodes,
            msg_dim,
            memory_dim,
            time_dim,
            num_mails=num_mails,
            fan_out=fan_out,
            heads=heads,
            dropout=dropout,
            memory_device=memory_device,
            time_init=time_init,
            mitigation=mitigation,
        )
        super().__init__(memory)
        self.norm = LayerNorm(memory_dim)
        self.embedding_dim = self.row_dim = memory_dim
        self.take_features(node_dim, memory_dim)

    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, memory_dim].

        Args:
            batch: Its queries.
        """
        return self.embed_with_rows(batch)[0]

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the embedding of each query, [Q, memory_dim], and those of all nodes read: [U, memory_dim].

        Args:
            batch: As :meth:`forward` takes it.
        """
        z, _ = self.rows(batch)
        rows = self.norm(z)
        return gather_rows(rows, batch.sample.seed, batch.sample.seed_sums), rows
