"""The batches of one trainer of a plan: its part of each, once for each visit, with other negatives on each."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        batches: The batch of each visit; they differ in their negatives. Empty if the trainer has no events of it.
    """

    position: int
    whole: range
    batches: tuple[Batch, ...]

    @property
    def plan(self) -> MemoryPlan | None:
        """What the first visit does to node memory; None if the trainer has no events of the batch."""
        return self.batches[0].plan if self.batches else None

    def fetch(self, state: RowState) -> None:
        """Reads the memory rows of all visits, at one version."""
        self.batches = tuple(batch.with_rows(state.fetch(batch)) for batch in self.batches)

    def with_rows(self, rows: MemoryRows) -> Visits:
        """Returns the same visits with the memory rows of the first."""
        return replace(self, batches=(self.batches[0].with_rows(rows), *self.batches[1:]) if self.batches else ())


class VisitBatches:
    """The batches of one trainer in one sweep, as a source for the pipeline; number ``n`` is the trainer's ``n``-th.

    Args:
        batches: The whole batches of the stream.
        schedule: The sweep's schedule.
        seat: The trainer's place in the plan.
        epoch: How often each event was trained before this sweep.
        positions: Which of the trainer's positions to train; by default all.
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
        """Returns all visits with their negatives and neighbourhoods, but without features."""
        position = self.positions[index]
        whole, batch = self._whole(position), self.schedule.batch_at(self.seat.group, position)
        visits = range(self.schedule.plan.epoch if len(events) else 0)
        epochs = [self.epoch + self.schedule.epoch(0, self.seat.group, visit) for visit in visits]
        begin = self._begin(position)
        return Visits(position, whole, tuple(self.batches.draw(events, each, batch, whole, begin) for each in epochs))

    def gather(self, visits: Visits) -> Visits:
        """Returns the visits with the features of their nodes and edges."""
        return replace(visits, batches=tuple(self.batches.gather(batch) for batch in visits.batches))

    def as_of(self, visits: Visits, index: int, version: int) -> Visits:
        """Returns the visits, planned for a memory in which only ``version`` of the trainer's batches are committed."""
        position = self.positions[version]
        bound, begin = self._whole(position).start, self._begin(visits.position)
        return replace(visits, batches=tuple(self.batches.planned_at(each, bound, begin) for each in visits.batches))

    def apply(self, state: RowState, visits: Visits, commit: Commit) -> None:
        """Applies the commit of this trainer's part.

        All trainers of a batch have read one version, so that their rows for the same node agree. After the stream's
        last batch the memory is cleared, if the sweep continues with the first one.

        Args:
            state: The group's memory.
            visits: The batch that was trained.
            commit: The commit of the first visit; it has no nodes if the part has no events.
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
