"""The executor that emulates all trainers of a plan in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.distributed.executor import Executor, Job, TrainStep
from pyg_mspipe.distributed.gradients import add_in_order
from pyg_mspipe.distributed.plan import Seat
from pyg_mspipe.distributed.random_state import RandomState, random_state, set_random_state
from pyg_mspipe.distributed.sweep import SweepSteps
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import Commit
from pyg_mspipe.tasks import Objective


class EmulatedExecutor(Executor):
    """Does the work of all processes of a plan, one after the other, with the same losses.

    Nothing overlaps, so the staleness is 0, and a step takes as long as the steps of all trainers together.

    Attributes:
        steps: What each trainer does in a step.
        objectives: Model and task of each memory group; all have the same parameters.
    """

    timeline = False

    def prepare(self, job: Job) -> None:
        """Gets ready to train."""
        self._job = job
        self.steps = SweepSteps(job)
        own = job.objective.model
        others = [own.with_state(own.state.empty_like()) for _ in range(1, job.plan.memory)]
        self.objectives = [job.objective, *map(job.objective.with_model, others)]
        self._trainers: list[_Trainer] = []
        self._random = {seat.rank: self.steps.first_random_state(seat.rank) for seat in job.plan.seats()}

    def counts(self) -> list[int]:
        """Returns how many items the loss of each step of a sweep is a mean over."""
        return self.steps.counts()

    @contextmanager
    def sweep(self, epoch: int, first: int, step: int) -> Iterator[TrainStep]:
        """Gives the function to call for each remaining step of a sweep, in order."""
        job = self._job
        for group in self.objectives:
            group.train()
        if first == 0:
            for number, group in enumerate(self.objectives):
                self.steps.begin(group.model.state, number)
        self._trainers = trainers = [
            _Trainer(self.steps, seat, self.objectives[seat.group], self._random[seat.rank], epoch, first)
            for seat in job.plan.seats()
        ]
        parameters = [x for x in job.objective.parameters() if x.requires_grad]

        def train(step: int) -> Tensor:
            job.optimizer.zero_grad()
            # All parts of a batch are read before the first part is committed.
            for trainer in trainers:
                trainer.read(step)
            losses, gradients = [], []
            for trainer in trainers:
                losses.append(trainer.train(step))
                gradients.append([x.grad for x in parameters])
                job.optimizer.zero_grad()
            for x, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
                if any(part is not None for part in parts):
                    x.grad = add_in_order([torch.zeros_like(x) if part is None else part for part in parts])
            if self.steps.learns(step):
                job.optimizer.step()
            return add_in_order(losses)

        yield train

    def running(self) -> AbstractContextManager[None]:
        """Returns an empty context: each step sets the random state of its trainer."""
        return nullcontext()

    def random_state(self) -> RandomState:
        """Returns the first trainer's random state, for a checkpoint."""
        return self._random[0]

    def load(self, random: RandomState, parts: dict[int, dict[str, Any]]) -> None:
        """Takes over a checkpoint's random state and the parts beside it; further memories begin empty without one."""
        self._trainers = []
        self.steps.forget_held()
        self._random[0] = dict(random)
        for group in range(1, self._job.plan.memory):
            self.objectives[group].model.state.clear(0)
        for rank, content in parts.items():
            seat = self._job.plan.seat(rank)
            self._random[rank] = {name: content[name] for name in random}
            self.steps.load_part(seat, content, self.objectives[seat.group].model.state)

    @property
    def ranks(self) -> list[int]:
        """The trainers whose parts are saved beside a checkpoint: all, if there are several."""
        return list(range(self._job.plan.world)) if self._job.plan.world > 1 else []

    def parts(self, batch: int) -> dict[int, dict[str, Any]]:
        """Returns the trainers' parts to save beside a checkpoint, by rank: plain values and tensors."""
        visits = {trainer.seat.rank: trainer.visits for trainer in self._trainers}
        found = {}
        for seat in (self._job.plan.seat(rank) for rank in self.ranks):
            state = self.objectives[seat.group].model.state
            found[seat.rank] = self.steps.part(seat, batch, visits.get(seat.rank), state) | self._random[seat.rank]
        return found


class _Trainer:
    """One of the emulated trainers."""

    def __init__(
        self, steps: SweepSteps, seat: Seat, objective: Objective, random: RandomState, epoch: int, first: int
    ) -> None:
        self.steps = steps
        self.seat = seat
        self.objective = objective
        self.state = objective.model.state
        self.random = random
        begin = self.state.span.begin
        self.source: VisitBatches = steps.source(seat, epoch, begin)
        self.visits: Visits | None = steps.restored(seat, epoch, begin, first)

    def read(self, step: int) -> None:
        """Reads a new batch if it is this trainer's turn."""
        turn = self.steps.schedule.assignment(self.seat, step)
        if turn is None or turn.visit:
            return
        self.visits = self.steps.visits(self.source, turn.position)
        self.visits.fetch(self.state)

    def train(self, step: int) -> Tensor:
        """Returns this trainer's share of the loss, with its gradients in the parameters."""
        device = self.steps.job.device
        set_random_state(device, self.random)
        loss = self.steps.train(self.objective, self.objective.model, self._commit, self.visits, self.seat, step)
        self.random.update(random_state(device))
        return loss

    def _commit(self, commit: Commit) -> None:
        assert self.visits is not None
        self.source.apply(self.state, self.visits, commit)
