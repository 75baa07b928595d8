"""Notices writes to node memory that are no commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor


class ForeignWriteError(RuntimeError):
    """Rows of node memory were changed during a pass, but not by its commits."""

    def __init__(self) -> None:
        super().__init__(
            "rows of node memory were changed during a pass by something other than its updates, while batches that "
            "are prepared ahead have read the old ones; change them between two passes, or by load_memory_state"
        )


class Writes:
    """Watches tensors of a pass, and tells whether anybody but their owner has written to them.

    PyTorch counts the writes to a tensor within one process: those of other processes to shared rows are not noticed.
    """

    def __init__(self) -> None:
        self._left: list[tuple[int, int]] | None = None
        self._foreign = False

    @contextmanager
    def watched(self, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Watches tensors until the context is left."""
        self._left = _counts(tensors)
        try:
            yield
        finally:
            self._left, self._foreign = None, False

    @contextmanager
    def by_owner(self, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Lets the owner write to its tensors."""
        if self._left is not None:
            self._foreign |= self._left != _counts(tensors)
        yield
        if self._left is not None:
            self._left = _counts(tensors)

    def check(self, tensors: Iterable[Tensor]) -> None:
        """Raises if somebody else has written.

        Raises:
            ForeignWriteError: If it is so.
        """
        if self._foreign or (self._left is not None and self._left != _counts(tensors)):
            raise ForeignWriteError

    def __getstate__(self) -> dict[str, object]:
        # A copy is of other tensors, which no pass watches.
        return {"_left": None, "_foreign": False}


def _counts(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    # Tensors made in inference mode have no count.
    return [(id(x), 0 if x.is_inference() else x._version) for x in tensors]
