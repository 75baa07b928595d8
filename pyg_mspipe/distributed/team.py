"""What a run asks of its processes; here of the one process that trains it alone, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Team:
    """A process that trains alone: it has no other process to agree with or wait for.

    Attributes:
        rank: The number of this process.
        label: An addition to the title of this process's timeline.
    """

    rank: int = 0
    label: str = ""

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's folder and shows its progress."""
        return self.rank == 0

    def agree(self, values: dict[str, object]) -> None:
        """Raises in every process if some value is not the same in all.

        Args:
            values: The values, by the names that an error shows.
        """

    def reduce(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Returns the sum of all processes' losses, Float32[n], and whether any process was asked to stop.

        Args:
            losses: Float32[n], this process's shares of the losses of ``n`` steps.
            stop: Whether this process was asked to stop.
        """
        return losses, stop

    def first(self, make: Callable[[], T]) -> T:
        """Returns, in every process, the result that the first process makes; if it fails, all fail.

        Args:
            make: Called in the first process; its result is pickled.
        """
        return make()

    def share(self, tensor: Tensor) -> None:
        """Copies the first process's values of a tensor into every process's tensor.

        Args:
            tensor: A tensor of any shape, the same in all processes.
        """

    def together(self) -> AbstractContextManager[None]:
        """Returns a context that fails in every process if it fails in one of them."""
        return nullcontext()

    def watched(self) -> AbstractContextManager[None]:
        """Returns a context whose error says which other process is gone, if one is."""
        return nullcontext()
