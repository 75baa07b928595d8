"""The memory state that the trainers of a group share and access in turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pyg_mspipe.distributed.memory_turns import REACH, AccessRecord, MemoryTurns
from pyg_mspipe.distributed.plan import ParallelPlan, Seat
from pyg_mspipe.distributed.shared_memory import share
from pyg_mspipe.distributed.visits import VisitBatches, Visits
from pyg_mspipe.memory import Commit, NodeState, RowState
from pyg_mspipe.memory.node_state import Pipeline

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
            self._server = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False, timeout=REACH)
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

    def pipelined_state(self, source: VisitBatches) -> GroupState:
        """Returns the state as a pipeline of this process uses it in a sweep.

        Args:
            source: The batches of this process's trainer.
        """
        return GroupState(self.state, self.turns, source)


class GroupState(NodeState):
    """The state of a group's memory for the pipeline of one of its processes: it is read and written in turns.

    The rows of all visits of a batch are read at once and travel with them, so that nothing is handed to the pipeline.

    Args:
        rows: The state that the group shares.
        turns: The turns of this process.
        source: The batches of this process's trainer.
    """

    shared = True
    mitigates = False

    def __init__(self, rows: RowState, turns: MemoryTurns, source: VisitBatches) -> None:
        super().__init__()
        self._rows = rows
        self._turns = turns
        self._source = source
        self._fetched: deque[Visits] = deque()

    @contextmanager
    def pipelined(self, pipeline: Pipeline) -> Iterator[None]:
        """Puts ``pipeline`` between the rows and training, as :meth:`NodeState.pipelined`."""
        with self._rows.pipelined(pipeline):
            yield

    def await_fetch(self, batch: Visits) -> None:
        """Waits until all batches before this one are committed."""
        self._turns.begin_read(batch.position)

    def fetch(self, batch: Visits, *, mitigated: bool = False) -> None:
        """Reads the rows of all visits."""
        batch.fetch(self._rows)
        self._fetched.append(batch)
        self._turns.end_read(batch.position)

    def await_apply(self, commit: Commit) -> None:
        """Waits until all parts of the batch have been read, and those before this trainer's are committed."""
        self._turns.begin_commit(self._fetched[0].position)

    def apply(self, commit: Commit) -> None:
        """Writes a commit's rows."""
        visits = self._fetched[0]
        self._source.apply(self._rows, visits, commit)
        self._turns.end_commit(visits.position)
        self._fetched.popleft()

    def catch_up(self, rows: None, commits: Sequence[Commit]) -> None:
        """Does nothing: a fetch waits until no commit is missing."""

    def note_missed(self, rows: None, commits: Sequence[Commit]) -> None:
        """Does nothing: a fetch waits until no commit is missing."""
