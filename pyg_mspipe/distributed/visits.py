"""What one trainer of a plan is given to train: its part of a batch, with other negatives on each visit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyg_mspipe.distributed.plan import Seat
from pyg_mspipe.distributed.schedule import SweepSchedule
from pyg_mspipe.memory import Commit, MemoryPlan, MemoryRows, RowState
from pyg_mspipe.pipeline import Batch, Batches


@dataclass
class Visits:
    """A trainer's part of a batch, once for each of the ``j`` steps in which it is trained.

    Attributes:
        position: Which batch of the memory group's sweep it is.
        whole: The event ids of the whole batch.
        batches: Of each visit; they differ in their negatives. None where the batch has no events for the trainer.
    """

    position: int
    whole: range
    batches: tuple[Batch, ...]

    @property
    def plan(self) -> MemoryPlan | None:
        """What the first visit does to node memory; none where the batch has no events for the trainer."""
        return self.batches[0].plan if self.batches else None

    @property
    def t(self) -> Tensor:
        """Int64[B], the times of its events."""
        return self.batches[0].t if self.batches else torch.empty(0, dtype=torch.long)

    def fetch(self, state: RowState) -> None:
        """Reads the rows of all visits, at the same version."""
        self.batches = tuple(batch.with_rows(state.fetch(batch)) for batch in self.batches)

    def with_rows(self, rows: MemoryRows) -> Visits:
        """Returns the same with what was read for the first visit."""
        return replace(self, batches=(self.batches[0].with_rows(rows), *self.batches[1:]) if self.batches else ())


class VisitBatches:
    """The batches of one trainer in one sweep, as a source for the pipeline: the number ``n`` is its ``n``-th.

    Args:
        batches: The stream's, whole ones.
        schedule: Of the sweep.
        seat: The trainer's.
        epoch: How often each event has been trained before this sweep.
        positions: To be trained, of those that are the trainer's; by default all.
        memory_begin: The first event that the group's memory has seen when the sweep begins.
    """

    def __init__(
        self,
        batches: Batches,
        schedule: SweepSchedule,
        seat: Seat,
        epoch: int,
        positions: range | None = None,
        *,
        memory_begin: int,
    ) -> None:
        self.batches = batches
        self.schedule = schedule
        self.seat = seat
        self.epoch = epoch
        self.positions = schedule.positions(seat) if positions is None else positions
        self.memory_begin = memory_begin

    def __len__(self) -> int:
        """Returns how many batches the trainer has."""
        return len(self.positions)

    def events_of(self, index: int) -> range:
        """Returns the event ids of the trainer's part of its batch ``index``."""
        return self.schedule.part(self._whole(self.positions[index]), self.seat)

    def draw(self, events: range, epoch: int, index: int) -> Visits:
        """Returns all visits with their negatives and neighbourhoods, the features still to be gathered."""
        position = self.positions[index]
        whole, batch = self._whole(position), self.schedule.batch_at(self.seat.group, position)
        visits = range(self.schedule.plan.epoch if len(events) else 0)
        epochs = [self.epoch + self.schedule.epoch(0, self.seat.group, visit) for visit in visits]
        begin = self._begin(position)
        return Visits(position, whole, tuple(self.batches.draw(events, each, batch, whole, begin) for each in epochs))

    def gather(self, visits: Visits) -> Visits:
        """Returns the visits with the features of what was drawn."""
        return replace(visits, batches=tuple(self.batches.gather(batch) for batch in visits.batches))

    def as_of(self, visits: Visits, index: int, version: int) -> Visits:
        """Returns gathered visits as they are planned where only ``version`` of the trainer's batches are committed."""
        position = self.positions[version]
        bound, begin = self._whole(position).start, self._begin(visits.position)
        return replace(visits, batches=tuple(self.batches.planned_at(each, bound, begin) for each in visits.batches))

    def apply(self, state: RowState, visits: Visits, commit: Commit) -> None:
        """Applies the commit of this trainer's part.

        Two trainers of a batch have read one version, so what they computed for the same node is the same. Once the
        stream's last batch is committed, the memory is cleared for the first, where the sweep goes on with that.

        Args:
            state: The group's.
            visits: What was trained.
            commit: What the first visit commits; a commit of no nodes where the part has no events.
        """
        state.apply(commit)
        following = visits.position + 1
        last = self.seat.part == self.schedule.plan.minibatch - 1
        goes_on = following < self.schedule.num_batches
        if last and goes_on and self.schedule.batch_at(self.seat.group, following) == 0:
            state.clear(self.batches.events.start, within_pipeline=True)

    def _begin(self, position: int) -> int:
        """Returns the first event that the group's memory has seen when it comes to a batch."""
        wrapped = self.schedule.batch_at(self.seat.group, position) < self.schedule.first_batch(self.seat.group)
        return self.batches.events.start if wrapped else self.memory_begin

    def _whole(self, position: int) -> range:
        return self.batches.events_of(self.schedule.batch_at(self.seat.group, position))
