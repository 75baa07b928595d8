"""A plan of many trainers in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.distributed import Seat
from pyg_mspipe.distributed.gradients import add_in_order
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import Commit, RowState
from pyg_mspipe.models import TGN
from pyg_mspipe.training.config import ConfigError
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.parallel_trainer import ParallelTrainer, Scorer
from pyg_mspipe.training.progress import TrainingProgress
from pyg_mspipe.training.random_state import random_state, set_random_state
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
        self._models = [
            self.model,
            *(self.model.with_state(self.model.state.empty_like()) for _ in range(1, self.plan.memory)),
        ]
        self._trainers: list[_Trainer] = []

    def _empty_twin(self) -> TGN:
        return self.model.with_state(self.model.state.empty_like())

    @property
    def seats(self) -> list[Seat]:
        """All trainers."""
        return self.plan.seats()

    def _group_state(self, group: int) -> RowState:
        return self._models[group].state

    @contextmanager
    def _pass(self, view: TrainingProgress, log: MetricsLog) -> Iterator[TrainStep]:
        for model in self._models:
            model.train()
        first = self.progress.batch
        self._trainers = trainers = [_Trainer(self, seat, self._models[seat.group], first) for seat in self.seats]
        parameters = [x for x in self.model.parameters() if x.requires_grad]

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
    """One of the trainers."""

    def __init__(self, run: EmulatedTrainer, seat: Seat, model: TGN, first: int) -> None:
        self.run = run
        self.seat = seat
        self.model = model
        self.state = model.state
        self.scorer = Scorer(model)
        state, batches = self.state, run._batches
        start = run.schedule.first_batch(seat.group) * batches.batch_size
        if (
            first == 0
            and (start == 0 or state.span.end == state.span.begin)
            and seat.rank == run.plan.ranks(seat.group)[0]
        ):
            state.clear(batches.events.start + start)
        self.source: VisitBatches = run._source(seat)
        self.visits: Visits | None = run._restored(seat, first)

    def read(self, step: int) -> None:
        """Reads a new batch if it is this trainer's turn."""
        turn = self.run.schedule.assignment(self.seat, step)
        if turn is None or turn.visit:
            return
        source = self.source
        index = source.positions.index(turn.position)
        self.visits = source.gather(source.draw(source.events_of(index), 0, index))
        self.visits.fetch(self.state)

    def train(self, step: int) -> Tensor:
        """Returns this trainer's share of the loss, with its gradients in the parameters."""
        set_random_state(self.run.device, self.run._states[self.seat.rank])
        loss = self.run._loss(self.scorer, self.model, self._commit, self.visits, self.seat, step)
        self.run._states[self.seat.rank] = random_state(self.run.device)
        return loss

    def _commit(self, commit: Commit) -> None:
        assert self.visits is not None
        self.source.apply(self.state, self.visits, commit)
