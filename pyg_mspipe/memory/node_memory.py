"""What a model's memory is to everything that trains it, whatever it keeps of a node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit

if TYPE_CHECKING:
    from typing_extensions import Self


class NodeMemory(Module, ABC):
    """The memory of a model: rows of nodes, which a batch reads and updates as its plan says.

    Attributes:
        state: The rows.
        memory_device: Where the rows are kept, if not with the weights.
    """

    state: RowState
    memory_device: torch.device | None

    @abstractmethod
    def make_plan(self, *args: Any, **options: Any) -> MemoryPlan:
        """Returns what a batch does to the memory; see :func:`~pyg_mspipe.memory.plan.plan_last_message`."""

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Returns the memory of a batch's nodes, [U, memory_dim], and the time of their last event: Int64[U].

        Args:
            batch: Gathered; its rows are read if it has none.
        """

    @abstractmethod
    def commit(self, batch: Any) -> Commit:
        """Returns the memory update of a batch, to be applied to the state.

        Args:
            batch: Gathered.
        """

    @abstractmethod
    def settle(self, source: Any) -> None:
        """Applies all that waits, as evaluation wants it.

        Args:
            source: The events that the memory has seen, such as their :class:`~pyg_mspipe.Batches`.
        """

    @abstractmethod
    def with_state(self, state: RowState) -> Self:
        """Returns a memory with the same parameters, not copies of them, and another state.

        Args:
            state: The other state, of as many nodes and the same width.
        """
