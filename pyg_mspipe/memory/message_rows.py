"""What is read from a memory that stores its messages, and what is written back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pyg_mspipe.memory.messages import LatestMessages, PendingMessages
from pyg_mspipe.memory.mitigation import Repair


@dataclass(frozen=True)
class MessageRows:
    """All that is read to update ``U`` nodes.

    Attributes:
        n_id: Int64[U], unique.
        memory: [U, memory_dim], their rows.
        last_update: Int64[U], in the unit of ``t``.
        messages: What waits to be applied to them.
        other: The rows at the other ends of the messages, [M, memory_dim] or [U, memory_dim].
        repair: What was read to mitigate staleness; none where nothing was.
        missed: Int64[U], how many commits touched a row that the fetch did not see; none where no commit was missed.
    """

    n_id: Tensor
    memory: Tensor
    last_update: Tensor
    messages: PendingMessages | LatestMessages
    other: Tensor
    repair: Repair | None = None
    missed: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        parts = (self, self.messages, self.repair)
        # Listed at once: what is cached may be added by another thread meanwhile.
        values = (x for part in parts if part is not None for x in tuple(vars(part).values()))
        return [x for x in values if isinstance(x, Tensor)]


@dataclass(frozen=True)
class MessageCommit:
    """The memory update of ``B`` events: new rows of the ``C`` nodes that they touch, and their new messages.

    Attributes:
        n_id: Int64[C], unique, sorted.
        memory: [C, memory_dim].
        last_update: Int64[C], in the unit of ``t``.
        src: Int64[B].
        dst: Int64[B].
        t: Int64[B].
        raw_msg: [B, raw_msg_dim].
        before: [C, memory_dim], the rows that the new ones were computed from; kept where a mitigation asks for it.
    """

    n_id: Tensor
    memory: Tensor
    last_update: Tensor
    src: Tensor
    dst: Tensor
    t: Tensor
    raw_msg: Tensor
    before: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that it holds."""
        return [x for x in tuple(vars(self).values()) if isinstance(x, Tensor)]

    def detach(self) -> MessageCommit:
        """Returns the same without its gradient."""
        before = None if self.before is None else self.before.detach()
        return replace(self, memory=self.memory.detach(), raw_msg=self.raw_msg.detach(), before=before)

    @cached_property
    def local_src(self) -> Tensor:
        """Int64[B], the position of each source in ``n_id``."""
        return torch.searchsorted(self.n_id, self.src)

    @cached_property
    def local_dst(self) -> Tensor:
        """Int64[B], the position of each destination in ``n_id``."""
        return torch.searchsorted(self.n_id, self.dst)
