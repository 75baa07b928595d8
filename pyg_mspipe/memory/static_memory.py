"""Static node memory: what is known of a node whatever the time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear, Module


class StaticMemory(Module):
    """Node vectors that were trained beforehand and are frozen, to be added to the dynamic memory.

    They carry what does not change with time, so that dynamic memory, which large batches update late, need not
    (DistTGL, Zhou et al. 2023, arXiv 2307.07649, section 3.1). A projection without a bias, trained with the model,
    brings them to the memory's width: a node whose vector is zero has its dynamic memory alone.

    The vectors have seen the events that the model is trained on, and a model that trusts them too much is worse at
    later ones, and at nodes without a vector. So in training some, drawn anew each time, are taken to be zero.

    The table is a buffer that is in no ``state_dict``: it is as large as all nodes and never changes.

    Args:
        num_nodes: Number of nodes ``N``.
        static_dim: Width of the vectors.
        memory_dim: Width of the dynamic memory.
        dropout: Share of the vectors that are taken to be zero in training.

    Attributes:
        table: Float32[N, static_dim], zero until :meth:`load`.
    """

    table: Tensor

    def __init__(self, num_nodes: int, static_dim: int, memory_dim: int, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.dropout = dropout
        self.lin = Linear(static_dim, memory_dim, bias=False)
        self.register_buffer("table", torch.zeros(num_nodes, static_dim), persistent=False)

    def reset_parameters(self) -> None:
        """Resets the projection; the table stays."""
        self.lin.reset_parameters()

    def load(self, table: Tensor) -> None:
        """Takes over node vectors ``table``: Float32[N, static_dim], from any device.

        Raises:
            ValueError: If they are of another number of nodes or width.
        """
        if table.shape != self.table.shape:
            raise ValueError(
                f"static node vectors have shape {tuple(table.shape)}, the model's {tuple(self.table.shape)}; "
                "pre-train them for this stream and this static_dim"
            )
        self.table.copy_(table)

    def forward(self, n_id: Tensor) -> Tensor:
        """Returns what is added to the memory of nodes: [U, memory_dim].

        Args:
            n_id: Int64[U].
        """
        rows = self.table.index_select(0, n_id)
        if self.training and self.dropout:
            # Whole and not scaled up for those that are dropped: zero is what an unknown node has.
            rows = rows * (torch.rand(rows.size(0), 1, device=rows.device) >= self.dropout)
        out: Tensor = self.lin(rows)
        return out
