"""The processes that torchrun has started, as the team that trains a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pyg_mspipe.distributed.gradients import add_in_order
from pyg_mspipe.distributed.team import Team
from pyg_mspipe.distributed.world import World

T = TypeVar("T")


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
