"""All that pipelines and parallel plans know of a memory: rows of nodes that are read for a batch and written back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from torch import Tensor

from pyg_mspipe.memory.writes import Writes


class Pipeline(Protocol):
    """What stands between a memory in training and its state while batches are prefetched."""

    def fetched(self) -> Any:
        """Returns the rows that were fetched for the batch in training."""
        ...

    def commit(self, commit: Any) -> None:
        """Takes the memory update of the batch in training, to be applied after those before it."""
        ...

    def drain(self) -> None:
        """Waits until all commits are applied."""
        ...

    def still(self) -> AbstractContextManager[None]:
        """Drains, and keeps the state as it is meanwhile."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Drains, and gives the state to the caller alone; what was fetched before is read anew."""
        ...


class NodeState(ABC):
    """A memory's state. Rows and commits are opaque to whoever moves them."""

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self._writes = Writes()

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that commits are written to, [N, ...] and others, by name."""
        return {}

    @contextmanager
    def pipelined(self, pipeline: Pipeline) -> Iterator[None]:
        """Puts ``pipeline`` between this state and whoever trains until the context is left.

        Raises:
            RuntimeError: If there is one already.
            ForeignWriteError: At the end of a pass in which the state was changed by anything but its commits.
        """
        if self.pipeline is not None:
            raise RuntimeError("the memory is in use by another pipeline; finish or close that one first")
        self.pipeline = pipeline
        try:
            with self._writes.watched(self.tensors().values()):
                yield
                self._writes.check(self.tensors().values())
        finally:
            self.pipeline = None

    def drain(self) -> None:
        """Waits until all commits that were handed to a pipeline are applied, where there is one."""
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline.drain()

    def still(self) -> AbstractContextManager[None]:
        """Returns a context that keeps the state as it is, with all commits applied; any thread may look at it then."""
        pipeline = self.pipeline
        return nullcontext() if pipeline is None else pipeline.still()

    def exclusive(self) -> AbstractContextManager[None]:
        """Gives the state to the caller alone, with all commits applied."""
        pipeline = self.pipeline
        return nullcontext() if pipeline is None else pipeline.exclusive()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is copied or stored: all but the pipeline."""
        return self.__dict__ | {"pipeline": None}

    # Where other processes use the same state.

    @property
    def shared(self) -> bool:
        """Whether other processes wait for commits, so that each is applied as soon as it is handed over."""
        return False

    def await_fetch(self, batch: Any) -> None:  # noqa: B027 - there is nothing to wait for by default
        """Waits until the rows of a batch may be read; before :meth:`fetch`, in the same thread.

        Args:
            batch: The batch.
        """

    def await_apply(self, commit: Any) -> None:  # noqa: B027 - as above
        """Waits until a commit may be applied; before :meth:`apply`, in the same thread.

        Args:
            commit: The commit.
        """

    @property
    @abstractmethod
    def mitigates(self) -> bool:
        """Whether stale rows are repaired, so that what that needs is to be read with them."""

    @abstractmethod
    def fetch(self, batch: Any, *, mitigated: bool = False) -> Any:
        """Returns what training reads for a batch, on the batch's device; nothing where it reads the state itself.

        Args:
            batch: With all that stages 1 and 2 add.
            mitigated: Whether what repairs stale rows is read too.
        """

    @abstractmethod
    def apply(self, commit: Any) -> None:
        """Writes a batch's commit.

        Args:
            commit: The next in batch order, on any device.
        """

    @abstractmethod
    def catch_up(self, rows: Any, commits: Sequence[Any]) -> Any:
        """Returns rows as a fetch after some commits would have given them; nothing where they must be read anew.

        Args:
            rows: Fetched when all commits before these were applied; they are written over.
            commits: In their order, on the rows' device.
        """

    @abstractmethod
    def note_missed(self, rows: Any, commits: Sequence[Any]) -> Any:
        """Returns rows that know how many commits each of their nodes has missed.

        Args:
            rows: Fetched before these commits were applied.
            commits: On the rows' device.
        """
