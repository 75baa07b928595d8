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
from typing import Literal, TextIO

import torch
import torch.distributed as dist

from pyg_mspipe import ParallelPlan, TrainConfig, Trainer, load_stream
from pyg_mspipe.distributed import ProcessExecutor, World, torchrun_started
from pyg_mspipe.tasks import Metrics, Ranking, link_metrics
from pyg_mspipe.training import Advanced, Event, Interrupted, SingleExecutor, keep_freed_memory
from pyg_mspipe.training.metrics_log import MetricsLog

ENDLESS = 1_000_000
"""Epochs; a training goes on until it is told to stop."""


class _Unvalidated:
    """An executor that does not validate."""

    def validate(self, on_batch: Callable[[int], None]) -> Metrics:
        return link_metrics([Ranking.of(torch.zeros(2, 1))], range(1))


class _SingleExecutor(_Unvalidated, SingleExecutor):
    pass


class _ProcessExecutor(_Unvalidated, ProcessExecutor):
    pass


class _Turns:
    """Listens to a trainer: says when a turn is over, and waits until it is this training's turn again.

    Args:
        controller: Lines to and from it, in the first process; the others follow that.
        blocks: Of a turn, so many times ``LOSS_BLOCK`` batches.
    """

    def __init__(self, controller: TextIO | None, blocks: int) -> None:
        self._controller = controller
        self._blocks = blocks
        self._done: list[int] = []
        self._began: float | None = None

    def __call__(self, event: Event) -> None:
        """Takes note of a block of batches, and ends training when the controller has hung up."""
        if not isinstance(event, Advanced):
            return
        self._done.append(event.events)
        if len(self._done) < self._blocks:
            return
        events, self._done = sum(self._done), []
        over = torch.zeros(1)
        if self._controller is not None:
            seconds = time.perf_counter() - self._began if self._began is not None else 0.0
            self._controller.write(f"{events} {seconds}\n")
            self._controller.flush()
            over += not self._controller.readline()
        if torchrun_started():
            dist.broadcast(over, src=0)
        self._began = time.perf_counter()
        if over:
            raise Interrupted


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
    world = World(ParallelPlan.parse(plan), torch.device("cpu"), config.timeout) if torchrun_started() else None
    executor = _SingleExecutor() if world is None else _ProcessExecutor(world)
    # The trainer itself has no folder, as nothing is to be saved.
    with TemporaryDirectory() as folder, MetricsLog(Path(folder)) as log, suppress(Interrupted):
        Trainer(data, config, executor=executor, listeners=[log, _Turns(controller, blocks)]).fit()
    if world is not None:
        world.close()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
