"""When each trainer of a plan reads, trains and commits which batch, as pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pyg_mspipe.distributed.plan import ParallelPlan, PlanError, Seat

Access = Literal["read", "commit"]


@dataclass(frozen=True)
class Assignment:
    """What a trainer does in one step.

    Attributes:
        position: The place of the batch in its memory group's sweep, from 0; also the version that the batch reads.
        batch: The batch's number in the stream.
        visit: How often the trainer has trained the batch before, from 0. On visit 0 the batch is read from node memory
            and committed.
    """

    position: int
    batch: int
    visit: int


@dataclass(frozen=True)
class SweepSchedule:
    """One sweep: every memory group goes through all batches once.

    Group ``g`` begins at segment ``g / k`` of the stream and trains to the stream's end. Its memory is then reset, and
    it trains from the stream's beginning to where it began. In step ``s`` the trainers of slot ``s mod j`` get the
    group's batch ``s``, for ``j`` steps. So a sweep has ``num_batches + j - 1`` steps; at its ends some slots are idle.

    Attributes:
        plan: The trainers.
        num_batches: Number of batches in the stream; all ``i`` parts together are one batch.

    Raises:
        PlanError: If there are fewer batches than memory groups.
    """

    plan: ParallelPlan
    num_batches: int

    def __post_init__(self) -> None:
        if self.num_batches < self.plan.memory:
            raise PlanError(
                f"{self.num_batches} batches cannot begin at {self.plan.memory} places; take a smaller k or batch size"
            )

    @property
    def num_steps(self) -> int:
        """Training steps of a sweep."""
        return self.num_batches + self.plan.epoch - 1

    def first_batch(self, group: int) -> int:
        """Returns the batch that the sweep of memory group ``group`` begins with."""
        return group * self.num_batches // self.plan.memory

    def batch_at(self, group: int, position: int) -> int:
        """Returns the batch that ``group`` comes to at ``position``; its memory is reset before batch 0."""
        return (self.first_batch(group) + position) % self.num_batches

    def assignment(self, seat: Seat, step: int) -> Assignment | None:
        """Returns what the trainer at ``seat`` does in ``step``; None if its slot has no batch in that step."""
        visit = (step - seat.slot) % self.plan.epoch
        position = step - visit
        if not 0 <= position < self.num_batches:
            return None
        return Assignment(position, self.batch_at(seat.group, position), visit)

    def positions(self, seat: Seat) -> range:
        """Returns which batches of its group's sweep the trainer at ``seat`` trains."""
        return range(seat.slot, self.num_batches, self.plan.epoch)

    def epoch(self, sweep: int, group: int, visit: int) -> int:
        """Returns the number of the set of negatives that a batch is trained with; no two visits have the same.

        Args:
            sweep: The sweep's number, from 0.
            group: The memory group's number.
            visit: How often the trainer has trained the batch before in this sweep.
        """
        return (sweep * self.plan.memory + group) * self.plan.epoch + visit

    def part(self, events: range, seat: Seat) -> range:
        """Returns the part of a batch's ``events`` that ``seat`` takes; empty where events are fewer than trainers."""
        parts = self.plan.minibatch
        cut = [events.start + len(events) * part // parts for part in (seat.part, seat.part + 1)]
        return range(*cut)

    def order(self) -> Iterator[tuple[Access, int, int]]:
        """Yields the accesses to a group's memory in a sweep, as (kind, position, part).

        Reads of one position may be in any order or at once, but each comes after the commits before it in this list;
        commits are one after the other, in just this order.
        """
        for position in range(self.num_batches):
            for kind in ("read", "commit"):
                for part in range(self.plan.minibatch):
                    yield kind, position, part
