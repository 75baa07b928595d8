"""A plan of many trainers in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.distributed import Seat
from pyg_mspipe.distributed.gradients import add_in_order
from pyg_mspipe.distributed.random_state import random_state, set_random_state
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import Commit, MemoryRows, TGNMemory
from pyg_mspipe.models import TemporalModel
from pyg_mspipe.tasks import Objective
from pyg_mspipe.training.config import ConfigError
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.parallel_trainer import ParallelTrainer
from pyg_mspipe.training.progress import TrainingProgress
from pyg_mspipe.training.trainer import TrainStep


class EmulatedTrainer(ParallelTrainer):
    """Does what the processes of ``config.parallel`` would do, one after the other, and gets the same losses.

    Nothing overlaps, so memory is that of staleness 0. It takes as long as all trainers together. Its arguments are
    those of :class:`Trainer`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.config.timeline:
            raise ConfigError("an emulated run has no pipeline to draw; leave out timeline")
        # One for each memory group; all have the same parameters.
        self._models: list[TemporalModel] = [
            self.model,
            *(self.model.with_own_memory() for _ in range(1, self.plan.memory)),
        ]
        self._trainers: list[_Trainer] = []

    @property
    def seats(self) -> list[Seat]:
        """All trainers."""
        return self.plan.seats()

    def _group_memory(self, group: int) -> TGNMemory:
        memory = self._models[group].memory
        assert memory is not None
        return memory

    @contextmanager
    def _pass(self, view: TrainingProgress, log: MetricsLog) -> Iterator[TrainStep]:
        for model in self._models:
            model.train()
        first = self.progress.batch
        self._trainers = trainers = [_Trainer(self, seat, self._models[seat.group], first) for seat in self.seats]
        parameters = [x for x in self.objective.parameters() if x.requires_grad]

        def train(step: int) -> Tensor:
            self.optimizer.zero_grad()
            # All parts of a batch are read before the first of them is committed.
            for trainer in trainers:
                trainer.read(step)
            losses, gradients = [], []
            for trainer in trainers:
                losses.append(trainer.train(step))
                gradients.append([x.grad for x in parameters])
                self.optimizer.zero_grad()
            for x, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
                if any(part is not None for part in parts):
                    x.grad = add_in_order([torch.zeros_like(x) if part is None else part for part in parts])
            self.optimizer.step()
            return add_in_order(losses)

        yield train

    def _save(self, name: str, memory: dict[str, Tensor], log: MetricsLog) -> None:
        for trainer in self._trainers:
            self._save_rank(trainer.seat, trainer.visits)
        set_random_state(self.device, self._states[0])
        super()._save(name, memory, log)
        self._remove_older()


class _Trainer:
    """One of the trainers, which stands between the memory of its group and the model, as a pipeline does."""

    def __init__(self, run: EmulatedTrainer, seat: Seat, model: TemporalModel, first: int) -> None:
        self.run = run
        self.seat = seat
        assert model.memory is not None
        self.model = model
        self.memory = model.memory
        self.objective = Objective(model, run.task, bf16=run.objective.bf16)
        self.source: VisitBatches = run._source(seat)
        self.visits: Visits | None = run._restored(seat, first)

    def read(self, step: int) -> None:
        """Reads a new batch if it is this trainer's turn."""
        turn = self.run.schedule.turn(self.seat, step)
        if turn is None or turn.visit:
            return
        if turn.batch == 0 and turn.position == 0 and self.seat.part == 0:
            self.memory.reset_state()
        source = self.source
        index = source.positions.index(turn.position)
        self.visits = source.gather(source.draw(source.events_of(index), 0, index))
        self.visits.fetch(self.memory)

    def train(self, step: int) -> Tensor:
        """Returns this trainer's share of the loss, with its gradients in the parameters."""
        set_random_state(self.run.device, self.run._states[self.seat.rank])
        with self.memory.pipelined(self):
            loss = self.run._loss(self.objective, self.model, self.visits, self.seat, step)
        self.run._states[self.seat.rank] = random_state(self.run.device)
        return loss

    # What the memory sees of a pipeline.

    def fetched(self) -> MemoryRows | None:
        """Returns nothing: the rows are given for each visit."""
        return None

    def commit(self, commit: Commit) -> None:
        """Applies a commit at once."""
        assert self.visits is not None
        self.source.commit(self.memory, self.visits, commit)

    def drain(self) -> None:
        """Does nothing, as no commit waits."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Does nothing, as nobody else is there."""
        return nullcontext()
