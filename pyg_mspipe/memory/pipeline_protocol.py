"""What a memory in training asks of a pipeline that stands before its state."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from pyg_mspipe.memory.rows import Commit, MemoryRows


class Pipeline(Protocol):
    """What stands between a memory in training and its state while batches are prefetched."""

    def fetched(self) -> MemoryRows | None:
        """Returns the rows that were fetched for the batch in training."""
        ...

    def commit(self, commit: Commit) -> None:
        """Takes the memory update of the batch in training, to be applied after those before it."""
        ...

    def drain(self) -> None:
        """Waits until all commits are applied."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Drains, and gives the state to the caller alone; what was fetched before is read anew."""
        ...
