"""Models whose queries read node memory, with what is known of nodes beside it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Linear

from pyg_mspipe.memory import NodeMemory, StaticMemory
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.pipeline.batch import Batch


class MemoryModel(TemporalModel):
    """A model that reads rows of a memory, to which features of nodes and static vectors are added.

    Args:
        memory: The memory.
    """

    memory: NodeMemory

    def __init__(self, memory: NodeMemory) -> None:
        super().__init__()
        self.memory = memory
        self.node_lin: Linear | None = None

    def take_features(self, node_dim: int, memory_dim: int) -> None:
        """Makes the projection of nodes' features; called last, so that other weights start as they do without it.

        Args:
            node_dim: Width of the features; 0 without any.
            memory_dim: Width of the memory.
        """
        if node_dim:
            self.node_lin = Linear(node_dim, memory_dim, bias=False)

    def join_static(self, static: StaticMemory) -> None:
        """Takes static node vectors, which are added to the rows of the memory.

        Args:
            static: The vectors, projected to the memory's width.
        """
        self.static_memory = static

    def rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns what is known of a batch's nodes, [U, memory_dim], and the time of their last event: Int64[U].

        Args:
            batch: Gathered.
        """
        z, last_update = self.memory(batch)
        if self.node_lin is not None:
            z = z + self.node_lin(batch.x)
        if self.static_memory is not None:
            z = z + self.static_memory(batch.n_id)
        return z, last_update
