"""A memory's state with its messages stored: for events of any kind, as PyG's interface takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data.tensor_tree import ship
from pyg_mspipe.memory.message_forwarding import forward_commit
from pyg_mspipe.memory.message_rows import MessageCommit, MessageRows
from pyg_mspipe.memory.messages import MessageStore, TieRule
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.node_state import NodeState, Pipeline
from pyg_mspipe.memory.rows import count_missed, find


class MessageState(NodeState):
    """Rows, last updates and pending messages of all nodes.

    Args:
        memory: [N, memory_dim], the rows.
        last_update: Int64[N].
        raw_msg_dim: Width of the raw messages; may be 0.
        tie: Which of a node's messages of equal time is the latest, where one for each node is read; none where all
            messages of a node's last batch are.
        mitigation: What repairs rows that were fetched too early.

    Attributes:
        serves: Whether a batch in flight is to get its rows; in evaluation the memory reads the state itself.
    """

    def __init__(
        self,
        memory: Tensor,
        last_update: Tensor,
        raw_msg_dim: int,
        tie: TieRule | None,
        mitigation: Mitigation | None,
    ) -> None:
        super().__init__()
        self.memory = memory
        self.last_update = last_update
        self.mitigation = mitigation
        self.serves = True
        self.tie = tie
        self.store = MessageStore(
            memory.size(0), raw_msg_dim, dtype=memory.dtype, device=memory.device, tie=tie or "last"
        )
        self._forwards: bool | None = None  # whether commits of this pipeline replace all older messages

    def tensors(self) -> dict[str, Tensor]:
        """Returns rows, [N, memory_dim], and last updates, Int64[N], by name."""
        return {"memory": self.memory, "last_update": self.last_update}

    @property
    def device(self) -> torch.device:
        """Where the state is kept."""
        return self.memory.device

    @property
    def mitigates(self) -> bool:
        """Whether there is a mitigation."""
        return self.mitigation is not None

    @contextmanager
    def pipelined(self, pipeline: Pipeline) -> Iterator[None]:
        """Puts ``pipeline`` between, as :meth:`NodeState.pipelined`."""
        with super().pipelined(pipeline):
            self._forwards = None
            yield

    def clear(self) -> None:
        """Sets rows and last updates to zero and forgets all messages."""
        if self.mitigation is not None:
            self.mitigation.reset_state()
        self.cut()
        with self._writes.by_owner(self.tensors().values()):
            self.memory.zero_()
            self.last_update.zero_()
        self.store.clear()

    def cut(self) -> None:
        """Cuts the rows off from the gradient computation of the steps so far."""
        if self.memory.requires_grad:
            self.memory.detach_()

    def fetch(self, batch: TemporalData, *, mitigated: bool = False) -> MessageRows | None:
        """Returns the rows of a batch's ``n_id``, as :meth:`NodeState.fetch`.

        Raises:
            ForeignWriteError: If rows were changed in this pass by anything but its commits.
        """
        self._writes.check(self.tensors().values())
        if self._forwards is None:
            latest = self.store.latest_time()
            self._forwards = latest is None or int(batch.t[0]) >= latest
        if not self.serves:
            return None
        return ship(self.read(batch.n_id, int(batch.t[0]) if mitigated else None), batch.n_id.device)

    def read(self, n_id: Tensor, t: int | None = None) -> MessageRows:
        """Returns what new rows of nodes are computed from, where the state is kept.

        Args:
            n_id: Int64[U], unique.
            t: Time of the batch's first event, where the mitigation is to read what it needs too.
        """
        n_id = n_id.to(self.device)
        messages = self.store.pending(n_id) if self.tie is None else self.store.latest(n_id)
        rows = MessageRows(
            n_id=n_id,
            memory=self.memory.index_select(0, n_id),
            last_update=self.last_update.index_select(0, n_id),
            messages=messages,
            other=self.memory.index_select(0, messages.other),
        )
        if t is None or self.mitigation is None:
            return rows
        return replace(rows, repair=self.mitigation.fetch(self.memory, self.last_update, n_id, t))

    def apply(self, commit: MessageCommit) -> None:
        """Writes a commit's rows and messages, as :meth:`NodeState.apply`."""
        if self.mitigation is not None and commit.before is not None:
            n_id, before, after = (x.to(self.device) for x in (commit.n_id, commit.before, commit.memory))
            self.mitigation.observe(n_id, before, after)
        self.write(commit.n_id, commit.memory, commit.last_update)
        self.store.append(*(x.to(self.device) for x in (commit.src, commit.dst, commit.t, commit.raw_msg)))

    def write(self, n_id: Tensor, memory: Tensor, last_update: Tensor) -> None:
        """Writes rows, [C, memory_dim], and last updates, Int64[C], of nodes: Int64[C]."""
        n_id = n_id.to(self.device)
        with self._writes.by_owner(self.tensors().values()):
            self.memory.index_copy_(0, n_id, memory.to(self.memory))
            self.last_update[n_id] = last_update.to(self.device)

    def settle(self, memory: Tensor, last_update: Tensor) -> None:
        """Takes over all rows, [N, memory_dim], and last updates, Int64[N], in which no message waits any more."""
        self.cut()
        with self._writes.by_owner(self.tensors().values()):
            self.memory.copy_(memory)
            self.last_update.copy_(last_update)
        self.store.clear()

    def catch_up(self, rows: MessageRows, commits: Sequence[MessageCommit]) -> MessageRows | None:
        """Returns rows with some commits' rows and messages in place of older ones, as :meth:`NodeState.catch_up`.

        It returns nothing where the state has messages later than the commits', which a commit then does not replace.
        """
        if commits and not self._forwards:
            return None
        for commit in commits:
            rows = forward_commit(rows, commit, self.store.tie)
        return rows

    def note_missed(self, rows: MessageRows, commits: Sequence[MessageCommit]) -> MessageRows:
        """Returns rows that know how many commits each node's has missed, as :meth:`NodeState.note_missed`."""
        return replace(rows, missed=count_missed(rows.n_id, (find(commit.n_id, rows.n_id)[1] for commit in commits)))

    def content(self) -> dict[str, Tensor]:
        """Returns copies of the whole state as a flat dictionary of tensors."""
        state = {"memory": self.memory.detach().clone(), "last_update": self.last_update.clone()}
        if self.mitigation is not None:
            state |= self.mitigation.mitigation_state()
        return state | self.store.state()

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`content` gave, from any device.

        Raises:
            ValueError: If it is the state of another number of nodes or width.
        """
        shapes = [tuple(state["memory"].shape), tuple(state["messages.raw_msg"].shape[1:])]
        own = [tuple(self.memory.shape), tuple(self.store.raw_msg_shape)]
        if shapes != own:
            raise ValueError(
                f"memory state has (num_nodes, memory_dim) = {shapes[0]} and raw_msg_dim = {shapes[1][0]}, the module "
                f"{own[0]} and {own[1][0]}; load it into a module of the same sizes"
            )
        self.cut()
        with self._writes.by_owner(self.tensors().values()):
            self.memory.copy_(state["memory"])
            self.last_update.copy_(state["last_update"])
        self.store.load_state(state)
        if self.mitigation is not None:
            self.mitigation.load_mitigation_state(state)

    def follow(self, memory: Tensor, last_update: Tensor) -> None:
        """Keeps rows and last updates from now on in other tensors, and messages beside them."""
        self.memory, self.last_update = memory, last_update
        self.store = self.store.to(memory.device, memory.dtype)
