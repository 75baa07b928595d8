"""What is done about memory rows that training computes from although they are not the newest.

A mitigation meets a batch in three places: where rows are fetched (:meth:`Mitigation.fetch`), where training computes
from them (:meth:`Mitigation.repair`), and where new rows are committed
(:meth:`Mitigation.observe`). Fetch and commit may run in other threads than training does, each under the lock of the
memory state. A batch of staleness 0 needs no mitigation and is not shown to ``repair``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Module

_AnyRepair = TypeVar("_AnyRepair", bound="Repair")


@dataclass(frozen=True)
class Repair:
    """What was read from the memory state to repair ``R`` of ``U`` fetched rows.

    Attributes:
        row: Int64[R], ascending positions among the fetched rows.
        value: [R, memory_dim], what the rows are repaired with.
    """

    row: Tensor
    value: Tensor

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        return list(vars(self).values())


class Mitigation(Module):
    """No mitigation, and the interface of all.

    What is kept beside weights (similar nodes, running means) follows the memory state's device wherever the module is
    moved, and is not in its ``state_dict``.
    """

    @torch.no_grad()
    def fetch(self, memory: Tensor, last_update: Tensor, n_id: Tensor, t: int) -> Repair | None:
        """Returns what a repair needs beside the fetched rows, on the memory's device; none if there is nothing.

        Args:
            memory: [N, memory_dim], of all nodes.
            last_update: Int64[N], in the unit of ``t``.
            n_id: Int64[U], unique, sorted; the nodes whose rows are fetched.
            t: Time of the batch's first event.
        """
        return None

    def repair(self, memory: Tensor, repair: Repair | None, missed: Tensor) -> Tensor:
        """Returns the rows to compute from: [U, memory_dim].

        Args:
            memory: [U, memory_dim], as fetched; not changed.
            repair: What :meth:`fetch` returned for them, on the same device.
            missed: Int64[U], how many commits touched the row that the fetch did not see; 0: not stale.
        """
        return memory

    def observe(self, n_id: Tensor, before: Tensor, after: Tensor) -> None:
        """Takes note of a commit.

        Args:
            n_id: Int64[C], unique, on the memory's device; the nodes of the commit.
            before: [C, memory_dim], the rows that the new ones were computed from.
            after: [C, memory_dim], the new rows.
        """

    def reset_state(self) -> None:
        """Forgets all commits."""

    def mitigation_state(self) -> dict[str, Tensor]:
        """Returns copies of what commits have left, beside weights, as a flat dictionary of tensors."""
        return {}

    def load_mitigation_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`mitigation_state` gave, from any device, and passes over other names.

        Args:
            state: Its tensors, by name.

        Raises:
            ValueError: If it lacks what this mitigation keeps, or is of another number of nodes or width.
        """
