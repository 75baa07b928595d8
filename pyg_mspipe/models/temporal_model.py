"""What a model is to everything that trains it: embeddings for a batch, and an update of its memory."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.memory import Commit, NodeMemory, RowState, StaticMemory
from pyg_mspipe.memory.whole import whole
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.batches import Batches

if TYPE_CHECKING:
    from typing_extensions import Self


class TemporalModel(Module, ABC):
    """A model of a stream of events: it embeds the queries of a batch, and then takes the batch into its memory.

    A subclass sets the attributes in its constructor, after ``super().__init__()``. A trainer calls that with the
    number of nodes, the width of the events' messages, and those settings of the run that it names as keywords.

    Attributes:
        memory: Node memory; none where the model has none.
        static_memory: Static node vectors, where :meth:`join_static` has brought some.
        num_hops: How many hops of neighbours are sampled for a query.
        embedding_dim: Width of the embeddings.
        row_dim: Width of the rows that :meth:`embed_with_rows` gives; 0 where it is not written.
        embeds_ends: Whether both ends of a batch's events are sampled like queries, after them, since what the batch
            does to the memory depends on their neighbourhoods.
        reads_moment: Whether an embedding depends on the moment that is asked for, beside the events before it. Where
            it does not, evaluation embeds a node once for all events of a batch.
        paddable: Whether rows may be added to a batch that no query asks for, as a GPU is given: each row is computed
            apart from others, the update is of the ends of the events alone, and what ``forward`` and ``commit`` read
            of a batch but tensors is the number of its events. Steps of such a model become CUDA graphs, in which
            nothing but tensors changes from step to step. A subclass says it for itself.
    """

    num_hops: int
    embedding_dim: int
    row_dim: int = 0
    embeds_ends: bool = False
    reads_moment: bool = True
    paddable: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.memory: NodeMemory | None = None
        self._no_rows = RowState({})
        self.static_memory: StaticMemory | None = None

    @property
    def name(self) -> str:
        """The model's name in checkpoints: its class's."""
        return type(self).__name__

    @property
    def state(self) -> RowState:
        """The state of the model: its memory's rows, or none, and which events it has seen."""
        return self._no_rows if self.memory is None else self.memory.state

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query: [Q, embedding_dim].

        Args:
            batch: Its queries and their neighbourhoods, one hop for each of ``num_hops``.
        """

    def embed_with_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns what :meth:`forward` does, and what the model knows of each node read: [U, row_dim].

        Tasks that look at nodes beside the queries, such as common neighbours, want the latter.

        Args:
            batch: As :meth:`forward` takes it.

        Raises:
            ValueError: If the model hands out no rows.
        """
        raise ValueError(f"model {self.name} hands out no rows of nodes; let it define row_dim and embed_with_rows")

    def commit(self, batch: Batch) -> Commit:
        """Returns the memory update of a batch, after the batch's queries were embedded.

        Args:
            batch: Its events and their messages; in evaluation its hops may be missing.
        """
        return self.empty_commit(batch.events.stop) if self.memory is None else self.memory.commit(batch)

    def empty_commit(self, stop: int) -> Commit:
        """Returns a memory update of no nodes.

        Args:
            stop: The event before which all are committed then.
        """
        rows = {name: table[:0] for name, table in self.state.tables.items()}
        return Commit(torch.empty(0, dtype=torch.long, device=self.state.device), rows, stop)

    def update(self, batch: Batch) -> None:
        """Updates the memory with the events of a batch at once, after the batch's queries were embedded.

        Args:
            batch: The batch, as :meth:`commit` takes it.
        """
        commit = self.commit(batch)
        with whole():
            self.state.apply(commit, settled=not self.training)

    def settle(self, batches: Batches) -> None:
        """Applies all messages that wait, as evaluation wants it.

        Args:
            batches: The batches of the stream that the memory has seen.
        """
        if self.memory is not None:
            self.memory.settle(batches)

    def join_static(self, static: StaticMemory) -> None:
        """Takes static node vectors, which embeddings build on from now on.

        Args:
            static: The vectors, with their projection.

        Raises:
            ValueError: If the model has no place for them.
        """
        raise ValueError(f"model {self.name} takes no static node vectors; leave out static_dim")

    def with_state(self, state: RowState) -> Self:
        """Returns a model that has the same parameters, not copies of them, and another state of the memory.

        Args:
            state: The other state, of as many nodes and the same width.
        """
        twin = copy.copy(self)
        twin.__dict__["_modules"] = dict(self._modules)
        if self.memory is None:
            twin._no_rows = state
        else:
            twin.memory = self.memory.with_state(state)
        return twin
