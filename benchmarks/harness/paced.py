"""A training in a process of its own, or in several, that trains some batches whenever it is told to.

Started by :mod:`benchmarks.harness.turns`, with what follows it as arguments in JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TextIO

import torch
import torch.distributed as dist
from torch import Tensor

from pyg_mspipe import ParallelPlan, TrainConfig, Trainer, load_stream
from pyg_mspipe.distributed import World
from pyg_mspipe.training import DistributedTrainer, Interrupted, keep_freed_memory

ENDLESS = 1_000_000
"""Epochs; a training goes on until it is told to stop."""

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class _Paced(_Base):
    """A trainer that calls ``turn`` after each block of batches, and neither validates nor saves."""

    turn: Callable[[int], bool]
    """Takes how many events the block had, and returns whether training is to end."""

    def _of_all(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        losses, stop = super()._of_all(losses, stop)
        end = self.progress.batch
        return losses, self.turn(sum(self._events_of_steps[end - losses.numel() : end])) or stop

    def _train_epoch(self, *args: Any) -> float:
        self._events_of_steps = self._counts()
        return super()._train_epoch(*args)

    def _save(self, *args: Any) -> None:
        pass

    def _finish_epoch(self, *args: Any) -> None:
        self.progress.epoch += self.epochs_at_once
        self.progress.batch, self.progress.loss_sum = 0, 0.0


class _PacedTrainer(_Paced, Trainer):
    pass


class _PacedDistributedTrainer(_Paced, DistributedTrainer):
    pass


class _Turns:
    """Says when a turn is over, and waits until it is this training's turn again.

    Args:
        controller: Lines to and from it, in the first process; the others follow that.
        blocks: Of a turn, so many times ``LOSS_BLOCK`` batches.
    """

    def __init__(self, controller: TextIO | None, blocks: int) -> None:
        self._controller = controller
        self._blocks = blocks
        self._done: list[int] = []
        self._began: float | None = None
        self._over = False

    def __call__(self, events: int) -> bool:
        """Returns whether training is to end.

        Args:
            events: That were trained in a block.
        """
        self._done.append(events)
        if self._over or len(self._done) < self._blocks:
            return self._over
        events, self._done = sum(self._done), []
        over = torch.zeros(1)
        if self._controller is not None:
            seconds = time.perf_counter() - self._began if self._began is not None else 0.0
            self._controller.write(f"{events} {seconds}\n")
            self._controller.flush()
            over += not self._controller.readline()
        if World.started():
            dist.broadcast(over, src=0)
        self._over = bool(over)
        self._began = time.perf_counter()
        return self._over


def main(
    address: str,
    stream: str,
    plan: str,
    batch_size: int,
    blocks: int,
    layers: int,
    overlap: Literal["always", "never"],
) -> None:
    """Trains until the controller hangs up."""
    controller = None
    if os.environ.get("RANK", "0") == "0":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            controller = connection.makefile("rw")
        controller.write(f"{os.getpid()}\n")
    config = TrainConfig(
        parallel=plan,
        batch_size=batch_size,
        layers=layers,
        overlap=overlap,
        threads=1,
        epochs=ENDLESS,
        patience=0,
        tensorboard=False,
    )
    data = load_stream(stream)
    keep_freed_memory()
    world = World(ParallelPlan.parse(plan), torch.device("cpu"), config.timeout) if World.started() else None
    with TemporaryDirectory() as folder:
        run = Path(folder)
        trainer: _Paced
        if world is None:
            trainer = _PacedTrainer(data, config, run)
        else:
            trainer = _PacedDistributedTrainer(data, config, run, world=world)
        trainer.turn = _Turns(controller, blocks)
        with suppress(Interrupted):
            trainer.fit()
    if world is not None:
        world.close()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
