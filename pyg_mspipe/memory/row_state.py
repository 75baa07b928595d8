"""A memory that is rows of nodes and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pyg_mspipe.data.tensor_tree import ship
from pyg_mspipe.memory.blank import Blank, zero_rows
from pyg_mspipe.memory.mailbox import deliver
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.node_state import NodeState
from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.memory.rows import Commit, MemoryRows, catch_up, count_missed, meeting, with_missed


class PlannedBatch(Protocol):
    """A batch that says what it reads of node memory."""

    @property
    def plan(self) -> MemoryPlan | None:
        """What its events do to node memory; none where it has no events."""
        ...


class Span(NamedTuple):
    """Which events a memory has seen.

    Attributes:
        begin: The first one.
        end: The event after the last one that is committed.
        settled: The event before which all are in the rows: ``begin`` in training, ``end`` in evaluation.
    """

    begin: int
    end: int
    settled: int


class RowState(NodeState):
    """A memory that is rows of named tables and nothing else.

    What waits to be applied to a row follows from the stream's history, see
    :func:`~pyg_mspipe.graph.pending_events`, and from which events the state has seen.

    Args:
        tables: The rows of all ``N`` nodes, [N, ...] each, by name.
        mitigation: What repairs rows that were fetched too early: those of ``"memory"``, by ``"last_update"``.
        blank: Whether all rows are zero.

    Attributes:
        tables: The rows.
    """

    def __init__(
        self, tables: Mapping[str, Tensor], mitigation: Mitigation | None = None, *, blank: bool = False
    ) -> None:
        super().__init__()
        self.tables = dict(tables)
        self.mitigation = mitigation
        # On the CPU and one tensor, so that processes can share it.
        self._span = torch.zeros(3, dtype=torch.long, device="cpu")
        self._blank = Blank(self.tables.values()) if blank else None
        self._shared = False

    @property
    def num_nodes(self) -> int:
        """The number of nodes ``N``; 0 without tables."""
        return next((table.size(0) for table in self.tables.values()), 0)

    @property
    def device(self) -> torch.device:
        """Where the rows are kept."""
        return next((table.device for table in self.tables.values()), self._span.device)

    @property
    def nbytes(self) -> int:
        """How many bytes the state takes, without what a mitigation keeps."""
        return sum(x.numel() * x.element_size() for x in (*self.tables.values(), self._span))

    @property
    def span(self) -> Span:
        """Which events the memory has seen."""
        return Span(*self._span.tolist())

    @property
    def mitigates(self) -> bool:
        """Whether there is a mitigation."""
        return self.mitigation is not None

    def clear(self, begin: int, *, within_pipeline: bool = False) -> None:
        """Sets all rows to zero.

        Args:
            begin: The event with which the memory begins.
            within_pipeline: Whether it is a pipeline's own stage that clears.

        Raises:
            RuntimeError: If a pipeline is running, whose rows would be those of before.
        """
        if self.pipeline is not None and not within_pipeline:
            raise RuntimeError("the memory is cleared while a pipeline is running; finish or close its pass first")
        with self._writes.by_owner(self.tensors().values()):
            # Rows that nobody has written to are not touched: of a large memory most have no place in RAM yet.
            if self._blank is None or not self._blank.still(self.tables.values()):
                for table in self.tables.values():
                    table.zero_()
                self._blank = None if self._shared else Blank(self.tables.values())
            self._span.fill_(begin)
        if self.mitigation is not None:
            self.mitigation.reset_state()

    def fetch(self, batch: PlannedBatch, *, mitigated: bool = False) -> MemoryRows:
        """Returns the rows that a batch's plan reads, as :meth:`NodeState.fetch`.

        Raises:
            ForeignWriteError: If rows were changed in this pass by anything but its commits.
        """
        self._writes.check(self.tensors().values())
        plan = batch.plan
        if plan is None or not self.tables:
            return MemoryRows({}, {})
        own = plan.at(self.device)
        values = {name: self.tables[read.table].index_select(0, read.n_id) for name, read in own.reads.items()}
        repair = None
        if mitigated and self.mitigation is not None:
            repair = self.mitigation.fetch(self.tables["memory"], self.tables["last_update"], own.n_id, plan.t)
        return MemoryRows(plan.reads, *ship((values, repair), plan.n_id.device), met=plan.met)

    def read(self, table: str, n_id: Tensor) -> Tensor:
        """Returns rows of nodes, [M, ...].

        Args:
            table: Its name.
            n_id: Int64[M]; the rows are given on its device.
        """
        return self.tables[table].index_select(0, n_id.to(self.device)).to(n_id.device)

    def apply(self, commit: Commit, *, settled: bool = False) -> None:
        """Writes a commit's rows, as :meth:`NodeState.apply`.

        Args:
            commit: The next in batch order, on any device.
            settled: Whether the commit's events are in its rows already, as in evaluation.
        """
        commit = ship(commit, self.device)
        if self.mitigation is not None and commit.before is not None:
            self.mitigation.observe(commit.n_id, commit.before, commit.rows["memory"])
        with self._writes.by_owner(self.tensors().values()):
            for name, rows in commit.rows.items():
                self.tables[name].index_copy_(0, commit.n_id, rows.to(self.tables[name]))
            if commit.mails is not None:
                deliver(self.tables, *commit.mails.tensors())
            self._span[1] = commit.stop
            if settled:
                self._span[2] = commit.stop

    def catch_up(self, rows: MemoryRows, commits: Sequence[Commit]) -> MemoryRows:
        """Returns rows with some commits' in place of older ones, as :meth:`NodeState.catch_up`."""
        for commit in commits:
            rows = catch_up(rows, commit)
        return rows

    def note_missed(self, rows: MemoryRows, commits: Sequence[Commit]) -> MemoryRows:
        """Returns rows that know how many commits each node's has missed, as :meth:`NodeState.note_missed`."""
        n_id = rows.reads["memory"].n_id
        return with_missed(rows, count_missed(n_id, (meeting(rows, "memory", commit)[0] for commit in commits)))

    def settle(self, rows: Iterable[tuple[Tensor, Mapping[str, Tensor]]]) -> None:
        """Takes over rows in which nothing waits any more, so that all committed events are in them.

        Args:
            rows: Nodes, Int64[M], and their rows, [M, ...] each, by table; all nodes, some at a time. They are computed
                from the state as it is.
        """
        with self.exclusive():
            settled = {name: torch.empty_like(table) for name, table in self.tables.items()}
            for n_id, values in rows:
                for name, value in values.items():
                    settled[name].index_copy_(0, n_id.to(self.device), value.to(settled[name]))
            with self._writes.by_owner(self.tensors().values()):
                for name, table in settled.items():
                    self.tables[name].copy_(table)
                self._span[2] = self._span[1]

    def save(self) -> dict[str, Tensor]:
        """Returns the whole state as a flat dictionary of tensors, with all commits applied."""
        with self.still():
            state = {name: table.clone() for name, table in self.tables.items()}
            if self.mitigation is not None:
                state |= self.mitigation.mitigation_state()
            return state | {"span": self._span.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what :meth:`save` gave.

        Args:
            state: Its tensors by name, [N, ...] each and ``span``, Int64[3]; on any device.

        Raises:
            ValueError: If it is the state of another number of nodes or width.
        """
        own = {name: tuple(table.shape) for name, table in self.tables.items()}
        found = {name: tuple(state[name].shape) if name in state else None for name in own}
        if own != found:
            raise ValueError(
                f"memory state has rows of {found}, the model {own}; load it into a model of the same sizes"
            )
        with self.exclusive():
            with self._writes.by_owner(self.tensors().values()):
                for name, table in self.tables.items():
                    table.copy_(state[name])
                self._span.copy_(state["span"])
            if self.mitigation is not None:
                self.mitigation.load_mitigation_state(dict(state))

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors that make up the state, to be shared between processes; see :meth:`attach`."""
        return self.tables | {"span": self._span}

    def attach(self, tensors: Mapping[str, Tensor]) -> None:
        """Keeps the state from now on in tensors like those that :meth:`tensors` gave.

        Whoever keeps theirs in the same ones must take turns at reading and writing.

        Args:
            tensors: By name, [N, ...] each and ``span``, Int64[3].
        """
        self.tables = {name: tensors[name] for name in self.tables}
        self._span = tensors["span"]
        self._blank, self._shared = None, True  # what others write is not counted here

    def empty_like(self) -> RowState:
        """Returns another state of the same tables, cleared."""
        mitigation = self.mitigation
        if mitigation is not None:  # what it has learned is shared, what commits have left in it is not
            mitigation = copy.deepcopy(mitigation, {id(x): x for x in mitigation.parameters()})
            mitigation.reset_state()
        return RowState(
            {name: zero_rows(*x.shape, dtype=x.dtype, device=x.device) for name, x in self.tables.items()},
            mitigation,
            blank=True,
        )

    def copy(self) -> RowState:
        """Returns another state with the same content."""
        out = self.empty_like()
        out.load(self.save())
        return out

    def move(self, fn: Callable[[Tensor], Tensor], *, keep_device: bool) -> None:
        """Moves the rows.

        Args:
            fn: Moves a tensor of any shape, as in ``torch.nn.Module._apply``.
            keep_device: Whether only its dtype is taken over.
        """
        blank = self._blank is not None and self._blank.still(self.tables.values())
        for name, table in self.tables.items():
            self.tables[name] = table.to(fn(table[:0]).dtype) if keep_device else fn(table)
        self._blank = Blank(self.tables.values()) if blank else None
