"""What each trainer of a plan does in a step of a sweep, whether it is a process of its own or emulated."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.distributed.executor import Job
from pyg_mspipe.distributed.plan import Seat
from pyg_mspipe.distributed.random_state import RandomState, random_state, set_random_state
from pyg_mspipe.distributed.schedule import SweepSchedule, Turn
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import MemoryRows
from pyg_mspipe.models.temporal_model import TemporalModel, memory_of
from pyg_mspipe.tasks import train_step


class SweepSteps:
    """The steps of a plan's sweeps, for any of its trainers.

    A step's loss is the mean over all items that are trained in it, whichever trainer has them.

    Args:
        job: What is trained; its batches become those of all ``i`` parts.

    Attributes:
        batches: Of the training events, whole ones.
        schedule: Who trains which of them when.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.plan = job.plan
        self.batches = job.train
        self.batches.batch_size *= self.plan.minibatch
        self.schedule = SweepSchedule(self.plan, len(self.batches))
        # How many items each rank trains in each step of a sweep.
        self._items = [
            [self._count(seat, step) for seat in self.plan.seats()] for step in range(self.schedule.num_steps)
        ]
        self._held: dict[int, list[MemoryRows]] = {}

    def counts(self) -> list[int]:
        """Returns how many items are trained in each step."""
        return [sum(items) for items in self._items]

    def source(self, seat: Seat, epoch: int, positions: range | None = None) -> VisitBatches:
        """Returns the batches of a trainer.

        Args:
            seat: The trainer.
            epoch: How often each event has been trained before the sweep.
            positions: Of the sweep, as for :class:`VisitBatches`.
        """
        return VisitBatches(self.batches, self.schedule, seat, epoch, positions)

    def visits(self, source: VisitBatches, position: int) -> Visits:
        """Returns what a trainer is given at a position of its group's sweep, memory rows still to be fetched.

        Args:
            source: The trainer's batches.
            position: One of its own.
        """
        index = source.positions.index(position)
        return source.gather(source.draw(source.events_of(index), 0, index))

    def train(self, objective: Module, model: TemporalModel, visits: Visits | None, seat: Seat, step: int) -> Tensor:
        """Returns a trainer's share of the loss of a step, after its gradients were computed and its commit made.

        Args:
            objective: Returns the loss of a batch, and a zero for none.
            model: With the memory of the trainer's group, in a pipeline.
            visits: What the trainer holds.
            seat: The trainer.
            step: Of the sweep.

        Returns:
            Float32[].
        """
        memory = memory_of(model)
        turn = self.schedule.turn(seat, step)
        if turn is None or visits is None or not visits.batches:
            # First, as others wait for this commit before their backward pass, which this one's waits for.
            if turn is not None and turn.visit == 0:
                memory.commit_nothing()
            objective(None).backward()
            return torch.zeros((), device=self.job.device)
        items = self._items[step]
        with memory.reading(visits.rows[turn.visit]) if visits.rows else nullcontext():
            return train_step(
                objective,
                visits.batches[turn.visit],
                commit=model.commit if turn.visit == 0 else None,
                weight=items[seat.rank] / sum(items),
            )

    # What is saved of a trainer beside a checkpoint: the rows that it holds for the steps to come.

    def held(self, seat: Seat, step: int, visits: Visits | None) -> list[dict[str, Any]]:
        """Returns the rows that a trainer goes on to train on, packed.

        Args:
            seat: The trainer.
            step: Its next step in the sweep.
            visits: What it holds.
        """
        turn = self._going_on(seat, step)
        return [rows.packed() for rows in visits.rows] if visits is not None and turn is not None else []

    def load_held(self, seat: Seat, packed: list[dict[str, Any]]) -> None:
        """Takes over what :meth:`held` gave.

        Args:
            seat: The trainer.
            packed: Rows.
        """
        self._held[seat.rank] = [MemoryRows.unpacked(fields) for fields in packed]

    def restored(self, seat: Seat, epoch: int, step: int) -> Visits | None:
        """Returns the batch that a trainer held when the checkpoint was written, if it is to be trained on.

        Args:
            seat: The trainer.
            epoch: As for :meth:`source`.
            step: The next one of the sweep.
        """
        turn = self._going_on(seat, step)
        if turn is None:
            return None
        visits = self.visits(self.source(seat, epoch), turn.position)
        visits.rows = [rows.to(self.job.device) for rows in self._held.pop(seat.rank)]
        return visits

    def forget_held(self) -> None:
        """Forgets what was taken over, as a sweep begins anew."""
        self._held = {}

    def first_random_state(self, rank: int) -> RandomState:
        """Returns the random state that a trainer begins with: that of a single run for the first.

        Args:
            rank: The trainer's.
        """
        device = self.job.device
        before = random_state(device)
        if rank == 0:
            return before
        seed = np.random.SeedSequence(self.job.seed, spawn_key=(rank,)).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> np.uint64(1)))
        state = random_state(device)
        set_random_state(device, before)
        return state

    def _going_on(self, seat: Seat, step: int) -> Turn | None:
        """Returns a trainer's turn in a step if it goes on with a batch that it holds already."""
        turn = self.schedule.turn(seat, step)
        return None if turn is None or turn.visit == 0 else turn

    def _count(self, seat: Seat, step: int) -> int:
        turn = self.schedule.turn(seat, step)
        if turn is None:
            return 0
        part = self.schedule.part(self.batches.events_of(turn.batch), seat)
        return self.job.objective.task.count(part)
