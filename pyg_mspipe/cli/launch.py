"""How a command trains: in one process, as one of torchrun's processes, or as an emulation of all trainers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import typer

from pyg_mspipe._loading import loading
from pyg_mspipe.distributed.team import Team
from pyg_mspipe.distributed.torchrun import torchrun_started
from pyg_mspipe.training.config import ConfigError, TrainConfig

if TYPE_CHECKING:
    from pyg_mspipe.distributed import Executor, World

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """How a run was started.

    Attributes:
        config: The run's settings.
        emulate: Whether one process emulates all trainers of the plan.
        team: The processes of the run.
        world: All processes, if torchrun has started the run.
    """

    config: TrainConfig
    emulate: bool
    team: Team
    world: World | None = None

    @property
    def leads(self) -> bool:
        """Whether this process prints for the run."""
        return self.team.leads

    def executor(self) -> Executor:
        """Returns what takes the training steps."""
        from pyg_mspipe.distributed import EmulatedExecutor, ProcessExecutor
        from pyg_mspipe.training import SingleExecutor

        if self.world is not None:
            return ProcessExecutor(self.world)
        return EmulatedExecutor() if self.emulate else SingleExecutor()

    def first(self, make: Callable[[], T]) -> T:
        """Returns, in every process, the result that the first process makes; if it fails, all fail."""
        return self.team.first(make)

    def load(self, read: Callable[[], T]) -> T:
        """Returns what ``read`` gives in each process; the first process calls it first, and so downloads alone."""
        loaded: list[T] = []
        for leads in (True, False):
            with self.team.together():
                if self.leads == leads:
                    loaded.append(read())
        return loaded[0]

    def echo(self, text: str) -> None:
        """Prints a line, once for all processes."""
        if self.leads:
            typer.echo(text)


@contextmanager
def launched(config: TrainConfig, emulate: bool, command: str) -> Iterator[Launch]:
    """Yields how the run was started, once all its processes are connected.

    Args:
        config: The settings of the run.
        emulate: Whether one process is to emulate all trainers of the plan.
        command: The command and arguments to type after ``mspipe``, for messages.

    Raises:
        ConfigError: If the plan has several trainers and torchrun has not started the run, or if it has started a run
            that is to be emulated.
        TrainerLostError: If another process of the run is gone.
    """
    plan = config.plan
    if not torchrun_started():
        if plan.world > 1 and not emulate:
            raise ConfigError(
                f"plan {plan} wants {plan.world} processes; start it with: torchrun --nproc-per-node {plan.world} "
                f"-m pyg_mspipe {command}, or add --emulate to emulate all in one process"
            )
        yield Launch(config, emulate, Team())
        return
    if emulate:
        raise ConfigError("--emulate is for one process; start without torchrun, or leave it out")
    with loading():
        # All is loaded before the processes meet: those that wait for one that still loads would give it up.
        from pyg_mspipe.cli import fitting  # noqa: F401
        from pyg_mspipe.distributed import World
        from pyg_mspipe.distributed.world_team import WorldTeam
        from pyg_mspipe.training import pick_device
    world = World(plan, pick_device(config.device), config.timeout)
    with world.watched():
        yield Launch(config, emulate, WorldTeam(world), world)
    world.close()
