"""The memory state that the trainers of a group share and access in turns."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import ClassVar

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pyg_mspipe.distributed.memory_turns import AccessRecord, MemoryTurns
from pyg_mspipe.distributed.plan import ParallelPlan, Seat
from pyg_mspipe.distributed.shared_memory import share
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import RowState
from pyg_mspipe.pipeline import InFlight, default_stages
from pyg_mspipe.pipeline.record import StageName
from pyg_mspipe.pipeline.stages import Stage

_HOST = "localhost"


class MemoryGroup:
    """One memory state for all trainers of a group, which are processes of one host.

    All processes of the plan must make their groups at the same time.

    Args:
        plan: The run's plan.
        seat: This process's place in the plan.
        state: The memory state of this process's model, on the CPU; the group shares it from now on.
        timeout: How long to wait for a turn, in seconds.
        log: Gets a record of each access, if given.

    Raises:
        SharedMemoryError: If the host has too little shared memory.
    """

    def __init__(
        self,
        plan: ParallelPlan,
        seat: Seat,
        state: RowState,
        *,
        timeout: float,
        log: list[AccessRecord] | None = None,
    ) -> None:
        self.plan = plan
        self.seat = seat
        self.state = state
        self.leader = plan.ranks(seat.group)[0]
        groups = [dist.new_group(list(plan.ranks(group)), backend="gloo") for group in range(plan.memory)]
        self._processes = groups[seat.group]
        state.attach(share(state.tensors(), self._processes, self.leader))
        self._server: TCPStore | None = None
        port = [0]
        if self.leads:
            wait = timedelta(seconds=timeout)
            self._server = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False, timeout=wait)
            port[0] = self._server.port
        dist.broadcast_object_list(port, src=self.leader, group=self._processes)
        self.turns = MemoryTurns(_HOST, port[0], plan.minibatch, seat.part, timeout, log)

    @property
    def leads(self) -> bool:
        """Whether this process does the work that is done once for the group."""
        return self.seat.rank == self.leader

    def barrier(self) -> None:
        """Waits for all processes of the group."""
        dist.barrier(self._processes)

    def stages(self, source: VisitBatches) -> list[Stage[Visits]]:
        """Returns the pipeline's stages; fetch and update wait for their turn at node memory."""
        sample, gather, _, train, _ = default_stages(source, self.state)
        return [sample, gather, GroupFetch(self.state, self.turns), train, GroupUpdate(self, source)]


class GroupFetch:
    """Stage 3: reads the memory rows for all visits of a batch, once all commits before it are applied."""

    name: ClassVar[StageName] = "fetch"
    requires: ClassVar[frozenset[str]] = frozenset({"batch"})
    adds: ClassVar[frozenset[str]] = frozenset({"rows"})

    def __init__(self, state: RowState, turns: MemoryTurns) -> None:
        self.state = state
        self.turns = turns

    def __call__(self, flight: InFlight[Visits]) -> None:
        """Waits for its turn and reads the rows."""
        visits = flight.batch
        assert visits is not None
        began = time.perf_counter()
        self.turns.begin_read(visits.position)
        flight.record.begin["fetch"] += time.perf_counter() - began  # waiting does not count as work
        with flight.state.reading(flight):
            visits.fetch(self.state)
        self.turns.end_read(visits.position)


class GroupUpdate:
    """Stage 5: writes a trainer's rows when it is its turn."""

    name: ClassVar[StageName] = "update"
    requires: ClassVar[frozenset[str]] = frozenset({"commit"})
    adds: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, group: MemoryGroup, source: VisitBatches) -> None:
        self.state = group.state
        self.turns = group.turns
        self.source = source

    def __call__(self, flight: InFlight[Visits]) -> None:
        """Waits for its turn and applies the commit."""
        visits = flight.batch
        assert visits is not None
        assert flight.commit is not None
        began = time.perf_counter()
        self.turns.begin_commit(visits.position)
        flight.record.begin["update"] += time.perf_counter() - began
        with flight.state.committing(flight):
            self.source.apply(self.state, visits, flight.commit)
        self.turns.end_commit(visits.position)
