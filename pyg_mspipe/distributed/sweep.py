"""What each trainer of a plan does in a step of a sweep, in its own process or emulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.distributed.executor import Job
from pyg_mspipe.distributed.plan import Seat
from pyg_mspipe.distributed.random_state import RandomState, random_state, set_random_state
from pyg_mspipe.distributed.schedule import Assignment, SweepSchedule
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import Commit, MemoryRows, RowState
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.pipeline import Batch
from pyg_mspipe.tasks import train_step


class SweepSteps:
    """The steps of a plan's sweeps, for any of its trainers.

    A step's loss is the mean over all items that are trained in it, whichever trainer has them.

    Args:
        job: What is trained; the size of its batches is multiplied by ``i``, the number of parts.

    Attributes:
        batches: The whole batches of the training events.
        schedule: Which trainer trains which batch when.
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
        self._held: dict[int, list[dict[str, Tensor]]] = {}

    def counts(self) -> list[int]:
        """Returns how many items are trained in each step."""
        return [sum(items) for items in self._items]

    def learns(self, step: int) -> bool:
        """Returns whether any item is trained in a step; if not, the weights stay.

        Args:
            step: The step's number in the sweep.
        """
        return any(self._items[step])

    def source(self, seat: Seat, epoch: int, memory_begin: int, positions: range | None = None) -> VisitBatches:
        """Returns the batches of a trainer.

        Args:
            seat: The trainer.
            epoch: How often each event was trained before the sweep.
            memory_begin: The first event that the memory of its group has seen.
            positions: The positions to train, see :class:`VisitBatches`.
        """
        return VisitBatches(self.batches, self.schedule, seat, epoch, positions, memory_begin=memory_begin)

    def visits(self, source: VisitBatches, position: int) -> Visits:
        """Returns the batch that a trainer gets at a position of its group's sweep, without memory rows yet.

        Args:
            source: The trainer's batches.
            position: One of the trainer's positions.
        """
        index = source.positions.index(position)
        return source.gather(source.draw(source.events_of(index), 0, index))

    def begin(self, state: RowState, group: int) -> None:
        """Clears a group's memory if its sweep begins with the stream's first batch, or the memory has seen no event.

        Args:
            state: The group's memory.
            group: The group's number.
        """
        first = self.schedule.first_batch(group)
        if first == 0 or state.span.end == state.span.begin:
            state.clear(self.batches.events_of(first).start)

    def train(
        self,
        objective: Module,
        model: TemporalModel,
        hand_over: Callable[[Commit], None],
        visits: Visits | None,
        seat: Seat,
        step: int,
    ) -> Tensor:
        """Computes a trainer's gradients and commit in a step, and returns its share of the step's loss.

        Args:
            objective: Returns the loss of a batch, and zero for None.
            model: The model, with the memory of the trainer's group.
            hand_over: Called with the commit.
            visits: The batch that the trainer holds.
            seat: The trainer.
            step: The step's number in the sweep.

        Returns:
            Float32[].
        """
        turn, items = self.schedule.assignment(seat, step), self._items[step]

        def commit(batch: Batch) -> None:
            hand_over(model.commit(batch))

        if turn is None or visits is None or not visits.batches or not items[seat.rank]:
            # The commit comes first: other trainers need it for their backward passes, which this one's waits for.
            if turn is not None and turn.visit == 0:
                if visits is not None and visits.batches:
                    with torch.no_grad():
                        commit(visits.batches[0])
                else:
                    hand_over(model.empty_commit(self.schedule.part(self.batches.events_of(turn.batch), seat).stop))
            if self.learns(step):
                objective(None).backward()
            return torch.zeros((), device=self.job.device)

        return train_step(
            objective,
            visits.batches[turn.visit],
            commit=commit if turn.visit == 0 else None,
            weight=items[seat.rank] / sum(items),
        )

    def part(self, seat: Seat, step: int, visits: Visits | None, state: RowState) -> dict[str, Any]:
        """Returns a trainer's part beside a checkpoint: the rows that it still needs, and a further group's memory.

        Args:
            seat: The trainer.
            step: The trainer's next step in the sweep.
            visits: The batch that the trainer holds.
            state: The memory of the trainer's group; its first trainer saves it, unless the checkpoint has it.
        """
        batches = () if visits is None or self._going_on(seat, step) is None else visits.batches
        held = [dict(batch.rows.values) for batch in batches if batch.rows is not None]
        leads = seat.group > 0 and seat.rank == self.plan.ranks(seat.group)[0]
        return {"held": held, "memory": state.save() if leads else {}}

    def load_part(self, seat: Seat, part: dict[str, Any], state: RowState) -> None:
        """Takes over the result of :meth:`part`.

        Args:
            seat: The trainer.
            part: The trainer's part beside a checkpoint.
            state: The memory of the trainer's group.
        """
        self._held[seat.rank] = part["held"]
        if part["memory"]:
            state.load(part["memory"])

    def restored(self, seat: Seat, epoch: int, memory_begin: int, step: int) -> Visits | None:
        """Returns the batch that a trainer held when the checkpoint was written, if it still trains it.

        Args:
            seat: The trainer.
            epoch: See :meth:`source`.
            memory_begin: See :meth:`source`.
            step: The trainer's next step in the sweep.
        """
        turn = self._going_on(seat, step)
        if turn is None:
            return None
        visits = self.visits(self.source(seat, epoch, memory_begin), turn.position)
        batches = []
        for batch, values in zip(visits.batches, self._held.pop(seat.rank), strict=True):
            reads = {} if batch.plan is None else batch.plan.reads
            rows = MemoryRows(reads, {name: x.to(self.job.device) for name, x in values.items()})
            batches.append(batch.with_rows(rows))
        return replace(visits, batches=tuple(batches))

    def forget_held(self) -> None:
        """Forgets the rows that :meth:`load_part` took over, since the sweep begins again."""
        self._held = {}

    def first_random_state(self, rank: int) -> RandomState:
        """Returns a trainer's first random state; the first trainer has that of a run with one process.

        Args:
            rank: The trainer's rank.
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

    def _going_on(self, seat: Seat, step: int) -> Assignment | None:
        """Returns what a trainer does in a step if it continues with a batch that it already holds."""
        turn = self.schedule.assignment(seat, step)
        return None if turn is None or turn.visit == 0 else turn

    def _count(self, seat: Seat, step: int) -> int:
        turn = self.schedule.assignment(seat, step)
        if turn is None:
            return 0
        part = self.schedule.part(self.batches.events_of(turn.batch), seat)
        return self.job.objective.task.count(part)
