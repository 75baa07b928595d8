"""Which trainer a command runs: one alone, one of those that torchrun has started, or all of a plan in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from torch_geometric.data import TemporalData

from pyg_mspipe.distributed import ParallelPlan
from pyg_mspipe.distributed.world import World
from pyg_mspipe.training import ConfigError, DistributedTrainer, EmulatedTrainer, TrainConfig, Trainer, pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """How a run was started.

    Attributes:
        config: The settings of the run.
        world: The processes of the run, if torchrun has started it; else None.
        emulate: Whether this process stands for all trainers of the plan.
    """

    config: TrainConfig
    world: World | None
    emulate: bool

    @property
    def leads(self) -> bool:
        """Whether this process prints what is printed once for the whole run."""
        return self.world is None or self.world.leads

    def first(self, make: Callable[[], T]) -> T:
        """Returns the first process's result of ``make`` in every process; if ``make`` fails, all processes raise."""
        if self.world is None:
            return make()
        value, error = None, None
        if self.world.leads:
            try:
                value = make()
            except Exception as problem:
                error = problem
        self.world.raise_together(error)
        return self.world.first(value)  # type: ignore[return-value]

    def load(self, read: Callable[[], TemporalData]) -> TemporalData:
        """Returns the stream, read by the first process and then by the others, which find it downloaded."""
        data, error = None, None
        for leads in (True, False):
            if self.leads == leads:
                try:
                    data = read()
                except Exception as problem:
                    error = problem
            if self.world is not None:
                self.world.raise_together(error)
        if error is not None:
            raise error
        assert data is not None
        return data

    def trainer(self, data: TemporalData, *args: Any, **options: Any) -> Trainer:
        """Returns the trainer of this process; the arguments are those of :class:`Trainer`."""
        if self.world is not None:
            return DistributedTrainer(data, self.config, *args, world=self.world, **options)
        kind = EmulatedTrainer if self.emulate else Trainer
        return kind(data, self.config, *args, **options)

    def echo(self, text: str) -> None:
        """Prints a line, once for all processes."""
        if self.leads:
            typer.echo(text)


@contextmanager
def launched(config: TrainConfig, emulate: bool, command: str) -> Iterator[Launch]:
    """Yields how the run was started, once all of its processes have met.

    Args:
        config: The settings of the run.
        emulate: Whether one process is to stand for all trainers of the plan.
        command: The command and arguments to type after ``mspipe``, for messages.

    Raises:
        ConfigError: If the plan has several trainers and torchrun has not started the run, or if it has started a run
            that is to be emulated.
        TrainerLostError: If another process of the run is gone.
    """
    plan = ParallelPlan.parse(config.parallel)
    if not World.started():
        if plan.world > 1 and not emulate:
            raise ConfigError(
                f"plan {plan} wants {plan.world} processes; start it with: torchrun --nproc-per-node {plan.world} "
                f"-m pyg_mspipe {command}, or add --emulate to have one process stand for all"
            )
        yield Launch(config, None, emulate)
        return
    if emulate:
        raise ConfigError("--emulate is for one process; start without torchrun, or leave it out")
    world = World(plan, pick_device(config.device), config.timeout)
    with world.watched():
        yield Launch(config, world, False)
    world.close()
