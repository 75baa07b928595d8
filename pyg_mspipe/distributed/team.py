"""The processes that train a run together, or the one that trains it alone."""

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
    """A process that trains alone, and so has nobody to agree with or to wait for.

    Attributes:
        rank: The number of this process.
        label: What is added to the title of this process's timeline.
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
            values: By name, as they are to be shown.
        """

    def reduce(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Returns the losses of steps, Float32[n], of all processes, and whether any of them was asked to stop.

        Args:
            losses: Float32[n], the shares of this process.
            stop: Whether this one was asked to stop.
        """
        return losses, stop

    def first(self, make: Callable[[], T]) -> T:
        """Returns, in every process, what the first one makes; where it fails, all do.

        Args:
            make: What to do there; its result is pickled.
        """
        return make()

    def share(self, tensor: Tensor) -> None:
        """Puts the values that a tensor has in the first process into that of every process.

        Args:
            tensor: Of any shape, the same in all processes.
        """

    def together(self) -> AbstractContextManager[None]:
        """Returns a context that raises in every process what is raised inside in one of them."""
        return nullcontext()

    def watched(self) -> AbstractContextManager[None]:
        """Returns a context that turns what is raised when another process is gone into an error that says which."""
        return nullcontext()


class WorldTeam(Team):
    """The processes that torchrun has started.

    Args:
        world: All of them.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.rank = world.rank
        self.label = f", rank {world.rank} of plan {world.plan}"

    def agree(self, values: dict[str, object]) -> None:
        """Raises in every process if some value is not the same in all."""
        self._world.agree(values)

    def reduce(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Returns the losses of steps, Float32[n], of all processes, and whether any of them was asked to stop."""
        mine = torch.cat([losses.cpu(), torch.tensor([float(stop)])])
        parts = [torch.empty_like(mine) for _ in range(self._world.plan.world)]
        dist.all_gather(parts, mine)
        total = add_in_order(parts)
        return total[:-1], bool(total[-1])

    def first(self, make: Callable[[], T]) -> T:
        """Returns, in every process, what the first one makes; where it fails, all do."""
        made: list[T] = []
        with self.together():
            if self.leads:
                made.append(make())
        return self._world.first(made)[0]

    def share(self, tensor: Tensor) -> None:
        """Puts the values that a tensor has in the first process into that of every process."""
        dist.broadcast(tensor, src=0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises in every process what is raised inside in one of them."""
        error: BaseException | None = None
        try:
            yield
        except (Exception, KeyboardInterrupt) as problem:
            error = problem
        self._world.raise_together(error)

    def watched(self) -> AbstractContextManager[None]:
        """Turns what is raised when another process is gone into an error that says which."""
        return self._world.watched()
