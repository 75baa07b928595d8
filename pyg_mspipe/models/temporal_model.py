"""What a model is to everything that trains it: embeddings for a batch, and an update of its memory."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import Module

from pyg_mspipe.memory import StaticMemory, TGNMemory
from pyg_mspipe.pipeline.batches import Batch

# A checkpoint has these with the memory's state, not with the weights.
_STATE = ("memory.memory", "memory.last_update", "memory._assoc")


class TemporalModel(Module, ABC):
    """A model of a stream of events: it embeds the queries of a batch, and then takes the batch into its memory.

    A subclass sets the attributes in its constructor, after ``super().__init__()``. A trainer calls that with the
    number of nodes, the width of the events' messages, and those settings of the run that it names as keywords.

    Attributes:
        memory: Node memory, the state of the model; none where it has no state.
        static_memory: Static node vectors, where :meth:`join_static` has brought some.
        num_hops: How many hops of neighbours are sampled for a query.
        embedding_dim: Width of the embeddings.
    """

    num_hops: int
    embedding_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.memory: TGNMemory | None = None
        self.static_memory: StaticMemory | None = None

    @property
    def name(self) -> str:
        """The model's name in checkpoints: its class's."""
        return type(self).__name__

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            batch: Its queries and their neighbourhoods, one hop for each of ``num_hops``.
        """

    def commit(self, batch: Batch) -> None:
        """Updates the memory with the events of a batch, after the batch's queries were embedded.

        Args:
            batch: Its events and their messages; in evaluation its hops may be missing.
        """
        if self.memory is not None:
            self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)

    def join_static(self, static: StaticMemory) -> None:
        """Takes static node vectors, which embeddings build on from now on.

        Args:
            static: The vectors, with their projection.

        Raises:
            ValueError: If the model has no place for them.
        """
        raise ValueError(f"model {self.name} takes no static node vectors; leave out static_dim")

    def weights(self) -> dict[str, Tensor]:
        """Returns the ``state_dict`` without the state of the memory, by name."""
        return {name: value for name, value in self.state_dict().items() if name not in _STATE}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Takes over what :meth:`weights` gave, and leaves the state of the memory as it is.

        Args:
            weights: By name, of a model of the same sizes.
        """
        self.load_state_dict(self.state_dict() | weights)

    def with_own_memory(self) -> TemporalModel:
        """Returns a model that has the same parameters, not copies of them, and a copy of the memory's state."""
        shared: list[Tensor] = [*self.parameters()]
        shared += [value for name, value in self.named_buffers() if name not in _STATE]
        return copy.deepcopy(self, {id(value): value for value in shared})


def memory_of(model: TemporalModel) -> TGNMemory:
    """Returns the memory of a model that is to be trained through a pipeline.

    Args:
        model: The model.

    Raises:
        ValueError: If it has none.
    """
    if model.memory is None:
        raise ValueError(f"model {model.name} has no memory, which a pipeline reads and writes; give it one")
    return model.memory
