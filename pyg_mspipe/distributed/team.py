"""The processes that train a run together, or the one process that trains it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pyg_mspipe.distributed.gradients import add_in_order
from pyg_mspipe.distributed.world import World

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


class WorldTeam(Team):
    """The processes that torchrun has started.

    Args:
        world: All processes of the run.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.rank = world.rank
        self.label = f", rank {world.rank} of plan {world.plan}"

    def agree(self, values: dict[str, object]) -> None:
        """Raises in every process if some value is not the same in all."""
        self._world.agree(values)

    def reduce(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Returns the sum of all processes' losses, Float32[n], and whether any process was asked to stop."""
        mine = torch.cat([losses.cpu(), torch.tensor([float(stop)])])
        parts = [torch.empty_like(mine) for _ in range(self._world.plan.world)]
        dist.all_gather(parts, mine)
        total = add_in_order(parts)
        return total[:-1], bool(total[-1])

    def first(self, make: Callable[[], T]) -> T:
        """Returns, in every process, the result that the first process makes; if it fails, all fail."""
        made: list[T] = []
        with self.together():
            if self.leads:
                made.append(make())
        return self._world.first(made)[0]

    def share(self, tensor: Tensor) -> None:
        """Copies the first process's values of a tensor into every process's tensor."""
        dist.broadcast(tensor, src=0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Fails in every process if it fails in one of them."""
        error: BaseException | None = None
        try:
            yield
        except (Exception, KeyboardInterrupt) as problem:
            error = problem
        self._world.raise_together(error)

    def watched(self) -> AbstractContextManager[None]:
        """Returns a context whose error says which other process is gone, if one is."""
        return self._world.watched()
