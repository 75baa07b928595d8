"""PyG's ``TGNMemory`` with pending messages in tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe.memory.memory_updater import MemoryUpdater
from pyg_mspipe.memory.messages import MessageStore, TieRule
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.pipeline_protocol import Pipeline
from pyg_mspipe.memory.rows import Commit, MemoryRows
from pyg_mspipe.memory.time_encoder import TimeInit

_Self = TypeVar("_Self", bound=Module)

# Nodes whose memory is flushed at once; bounds the messages that exist at a time.
_FLUSH_CHUNK = 1 << 14


@dataclass(frozen=True)
class _Updated:
    """What ``forward`` computed, and what it computed it from."""

    n_id: Tensor
    before: Tensor
    memory: Tensor
    last_update: Tensor
    made_from: tuple[int, ...]


class TGNMemory(MemoryUpdater):
    """The memory of the Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637), a drop-in for PyG's.

    Same constructor, modules, methods, ``state_dict`` keys and numbers as :class:`torch_geometric.nn.TGNMemory`. What
    differs: messages are kept in tensors, so a step costs no Python work per node or event; ``update_state`` takes over
    what ``forward`` has just computed for the same nodes; and a node without messages never receives another node's
    (as it does in PyG with ``LastAggregator`` where torch_scatter is missing).

    With PyG's ``IdentityMessage`` and a ``LastAggregator`` only one message is computed for each node, and only the
    gradients that reach a parameter.

    Args:
        num_nodes: Number of nodes ``N``.
        raw_msg_dim: Width of the raw messages; may be 0.
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        message_module: Maps ``(z_src, z_dst, raw_msg, t_enc)``: [M, .] each, to messages [M, out_channels], and has the
            attribute ``out_channels``. It is copied for the destination's role.
        aggregator_module: Maps ``(msg, index, t, dim_size)`` to [dim_size, out_channels].
        memory_device: Keeps node memory and messages on this device, wherever the module is moved; by default they
            follow the module.
        time_init: Where the time encoder starts, see :class:`TimeEncoder`.
        mitigation: What is done about rows that a pipeline fetched too early, see
            :func:`~pyg_mspipe.memory.mitigation.make_mitigation`.

    Attributes:
        row_version: Int64[N], the commit that last wrote each row; -1 for none.

    Example:
        >>> import torch
        >>> from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator
        >>> from pyg_mspipe import TGNMemory
        >>> memory = TGNMemory(4, 1, 8, 8, IdentityMessage(1, 8, 8), LastAggregator())
        >>> memory.update_state(
        ...     src=torch.tensor([0]), dst=torch.tensor([2]), t=torch.tensor([10]), raw_msg=torch.ones(1, 1)
        ... )
        >>> z, last_update = memory(torch.tensor([0, 1, 2]))
        >>> z.shape, last_update
        (torch.Size([3, 8]), tensor([10,  0, 10]))
    """

    memory: Tensor
    last_update: Tensor
    _assoc: Tensor

    def __init__(
        self,
        num_nodes: int,
        raw_msg_dim: int,
        memory_dim: int,
        time_dim: int,
        message_module: Module,
        aggregator_module: Module,
        *,
        memory_device: torch.device | str | None = None,
        time_init: TimeInit = "random",
        mitigation: Mitigation | None = None,
    ) -> None:
        super().__init__(memory_dim, time_dim, message_module, aggregator_module, time_init, mitigation)
        self.num_nodes = num_nodes
        self.raw_msg_dim = raw_msg_dim
        self.memory_device = None if memory_device is None else torch.device(memory_device)

        state = {"device": self.memory_device}
        self.register_buffer("memory", torch.zeros(num_nodes, memory_dim, **state))  # type: ignore[arg-type]
        self.register_buffer("last_update", torch.zeros(num_nodes, dtype=torch.long, **state))  # type: ignore[arg-type]
        # Position of a node in what forward computed last. PyG has this buffer in its state_dict too.
        self.register_buffer("_assoc", torch.zeros(num_nodes, dtype=torch.long, **state))  # type: ignore[arg-type]

        self._store = self._new_store()
        self._updated: _Updated | None = None
        self._pipeline: Pipeline | None = None
        self._given: MemoryRows | None = None
        self._num_commits = torch.zeros(1, dtype=torch.long)
        self.row_version = torch.full((num_nodes,), -1, dtype=torch.long, device=self.memory.device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the state."""
        super().reset_parameters()
        self.reset_state()

    @property
    def version(self) -> int:
        """How many commits have been applied since the last reset."""
        return int(self._num_commits)

    @property
    def tie_rule(self) -> TieRule:
        """Which of a node's messages of equal time counts as the latest."""
        return self._store.tie

    @contextmanager
    def pipelined(self, pipeline: Pipeline) -> Iterator[None]:
        """Puts ``pipeline`` between this memory and its state until the context is left.

        ``forward`` then takes the rows that the pipeline has fetched, and ``update_state`` hands its commit over to it.

        Raises:
            RuntimeError: If there is one already.
        """
        if self._pipeline is not None:
            raise RuntimeError("the memory is in use by another pipeline; finish or close that one first")
        self._pipeline = pipeline
        try:
            yield
        finally:
            self._pipeline = None

    @contextmanager
    def reading(self, rows: MemoryRows) -> Iterator[None]:
        """Lets ``forward`` take ``rows`` that were fetched before, for just their nodes, until the context is left."""
        self._given = rows
        try:
            yield
        finally:
            self._given = None

    def state_tensors(self, max_pending: int) -> dict[str, Tensor]:
        """Returns all tensors that make up the state, to be shared between processes; see :meth:`attach_state`.

        Args:
            max_pending: Room for so many messages' events; see :meth:`MessageStore.tensors`.
        """
        state = {"memory": self.memory, "last_update": self.last_update}
        state |= {"row_version": self.row_version, "version": self._num_commits}
        return state | {f"messages.{name}": value for name, value in self._store.tensors(max_pending).items()}

    def attach_state(self, tensors: dict[str, Tensor]) -> None:
        """Keeps the state from now on in ``tensors`` like those that :meth:`state_tensors` gave.

        Whoever keeps theirs in the same ones must take turns at reading and writing.
        """
        self.memory, self.last_update = tensors["memory"], tensors["last_update"]
        self.row_version, self._num_commits = tensors["row_version"], tensors["version"]
        prefix = "messages."
        messages = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        self._store.attach(messages)
        self._updated = None

    def reset_state(self) -> None:
        """Sets memory and last updates to zero and forgets all messages.

        Raises:
            RuntimeError: If a pipeline is running, whose rows would be those of before.
        """
        if self._pipeline is not None:
            raise RuntimeError("reset_state while a pipeline is running; finish or close its loader first")
        self.clear_state()

    def clear_state(self) -> None:
        """Does what :meth:`reset_state` does, for a pipeline's own stages."""
        self._num_commits.zero_()
        self.row_version.fill_(-1)
        if self.mitigation is not None:
            self.mitigation.reset_state()
        self._cut()
        self.memory.zero_()
        self.last_update.zero_()
        self._store.clear()
        self._updated = None

    def detach(self) -> None:
        """Cuts the memory off from the gradient computation of the steps so far."""
        self._cut()
        self._updated = None

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the current memory of nodes and the time of their last update.

        In training mode pending messages are applied first, without changing the state; a node that has none then has
        its last update at 0, as in PyG.

        Args:
            n_id: Int64[U], unique.

        Returns:
            Memory, [U, memory_dim], and last update, Int64[U], on the weights' device.
        """
        if not self.training:
            n_id = n_id.to(self.memory.device)
            return self.memory[n_id].to(self.device), self.last_update[n_id].to(self.device)
        rows = self._fetched(n_id)
        memory, last_update = self.compute(rows)
        n_id = n_id.to(self.memory.device)
        self._assoc[n_id] = torch.arange(n_id.numel(), device=self._assoc.device)
        self._updated = _Updated(n_id, rows.memory, memory, last_update, self._made_from())
        if memory.requires_grad:
            memory.register_hook(self._forget)
        return memory, last_update

    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None:
        """Takes new events into the state: applies the pending messages of their nodes and stores the new ones.

        In evaluation mode it is the other way round, so that the events are in the memory at once.

        Args:
            src: Int64[B].
            dst: Int64[B].
            t: Int64[B].
            raw_msg: [B, raw_msg_dim]; kept without its gradient.

        Raises:
            ValueError: If ``t`` is not integral or ``raw_msg`` has another shape.
        """
        if t.is_floating_point():
            raise ValueError(f"t has dtype {t.dtype}; give whole times as int64, in a finer unit if need be")
        if tuple(raw_msg.shape) != (src.numel(), self.raw_msg_dim):
            expected = (src.numel(), self.raw_msg_dim)
            raise ValueError(f"raw_msg has shape {tuple(raw_msg.shape)}, not {expected}; give a row for each event")
        if self.training:
            commit = self._commit(src, dst, t, raw_msg)
            if self._pipeline is None:
                self.apply_commit(commit)
            else:
                self._pipeline.commit(commit.detach())
        else:
            with self._exclusive():
                self._store.append(*(x.to(self.memory.device) for x in (src, dst, t, raw_msg)))
                nodes = torch.cat([src, dst]).unique()
                self._write(nodes, *self.compute(self.fetch(nodes)))
        self._updated = None

    def commit_nothing(self) -> None:
        """Hands over a commit of no events, where a pipeline counts on one."""
        none = torch.empty(0, dtype=torch.long, device=self.device)
        rows = torch.empty(0, self.memory_dim, device=self.device)
        assert self._pipeline is not None
        self._pipeline.commit(Commit(none, rows, none, none, none, none, rows.new_empty(0, self.raw_msg_dim)))

    def apply_commit(self, commit: Commit) -> None:
        """Writes a batch's new rows and messages into the state.

        Args:
            commit: The next in batch order, on any device.
        """
        if self.mitigation is not None and commit.before is not None:
            n_id, before, after = (x.to(self.memory.device) for x in (commit.n_id, commit.before, commit.memory))
            self.mitigation.observe(n_id, before, after)
        self._write(commit.n_id, commit.memory, commit.last_update)
        self._store.append(*(x.to(self.memory.device) for x in (commit.src, commit.dst, commit.t, commit.raw_msg)))

    def fetch(self, n_id: Tensor, t: int | None = None) -> MemoryRows:
        """Returns what :meth:`compute` needs of the state, on the weights' device.

        Args:
            n_id: Int64[U], unique.
            t: Time of the batch's first event, where the mitigation is to read what it needs too.
        """
        n_id = n_id.to(self.memory.device)
        messages = self._store.pending(n_id) if self._tie_rule() is None else self._store.latest(n_id)
        rows = MemoryRows(
            n_id=n_id,
            memory=self.memory.index_select(0, n_id),
            last_update=self.last_update.index_select(0, n_id),
            messages=messages,
            other=self.memory.index_select(0, messages.other),
        )
        if t is not None and self.mitigation is not None:
            rows = replace(rows, repair=self.mitigation.fetch(self.memory, self.last_update, n_id, t))
        return rows if self.memory.device == self.device else rows.to(self.device)

    def drain(self) -> None:
        """Waits until all commits that were handed to a pipeline are applied, where there is one."""
        if self._pipeline is not None:
            self._pipeline.drain()

    def memory_state(self) -> dict[str, Tensor]:
        """Returns node memory with its pending messages, and the mode they belong to, as a flat dictionary of tensors.

        Together with ``state_dict`` this is the whole module: training or evaluation goes on from it as if it had not
        been interrupted.
        """
        self.drain()
        state = {"memory": self.memory.detach().clone(), "last_update": self.last_update.clone()}
        if self.mitigation is not None:
            state |= self.mitigation.mitigation_state()
        return state | self._store.state() | {"training": torch.tensor(self.training)}

    def load_memory_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`memory_state` gave, from any device, and the mode that it was in.

        Pending messages are part of the memory in evaluation mode and still to come in training mode, so that the state
        means nothing in the other one.

        Args:
            state: From a module of the same sizes.

        Raises:
            ValueError: If it is the state of another number of nodes or width.
        """
        shapes = [tuple(state["memory"].shape), tuple(state["messages.raw_msg"].shape[1:])]
        own = [(self.num_nodes, self.memory_dim), (self.raw_msg_dim,)]
        if shapes != own:
            raise ValueError(
                f"memory state has (num_nodes, memory_dim) = {shapes[0]} and raw_msg_dim = {shapes[1][0]}, the module "
                f"{own[0]} and {own[1][0]}; load it into a module of the same sizes"
            )
        with self._exclusive():
            self._cut()
            self.memory.copy_(state["memory"])
            self.last_update.copy_(state["last_update"])
            self._store.load_state(state)
            if self.mitigation is not None:
                self.mitigation.load_mitigation_state(state)
            self._updated = None
            super().train(bool(state["training"]))

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Returns parameters and buffers, with all commits applied."""
        self.drain()
        return super().state_dict(*args, **options)

    def latest_time(self) -> int | None:
        """Returns the time of the last event since the last reset, in the unit of ``t``; none if there was none."""
        return self._store.latest_time()

    def train(self: _Self, mode: bool = True) -> _Self:
        """Sets the mode and returns the module. Leaving training mode applies all pending messages and forgets them.

        Args:
            mode: Whether to train, rather than to evaluate.
        """
        assert isinstance(self, TGNMemory)
        with self._exclusive() if mode != self.training else nullcontext():
            if self.training and not mode:
                self._flush()
            self._updated = None
            return super().train(mode)

    @torch.no_grad()
    def _flush(self) -> None:
        memory, last_update = torch.empty_like(self.memory), torch.empty_like(self.last_update)
        for n_id in torch.arange(self.num_nodes, device=memory.device).split(_FLUSH_CHUNK):
            memory[n_id], last_update[n_id] = self.compute(self.fetch(n_id))
        self._cut()
        self.memory.copy_(memory)
        self.last_update.copy_(last_update)
        self._store.clear()
        self._updated = None

    def _commit(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> Commit:
        # As the store keeps them, so that what is forwarded is what would be fetched.
        src, dst, t = (x.long().contiguous() for x in (src, dst, t))
        raw_msg = raw_msg.to(self.memory.dtype)
        nodes = torch.cat([src, dst]).unique()
        computed = self._recall(nodes)
        if computed is None:
            rows = self._fetched(nodes)
            computed = rows.memory, *self.compute(rows)
        before, memory, last_update = computed
        kept = None if self.mitigation is None else before
        return Commit(nodes, memory, last_update, src, dst, t, raw_msg, kept)

    def _fetched(self, n_id: Tensor) -> MemoryRows:
        """Returns rows that were prefetched for just these nodes, mitigated, or else reads them from the state."""
        if self._given is not None and torch.equal(self._given.n_id, n_id):
            return self._given
        if self._pipeline is not None:
            rows = self._pipeline.fetched()
            if rows is not None and (rows.n_id is n_id or torch.equal(rows.n_id, n_id)):
                if self.mitigation is not None and rows.missed is not None:
                    rows = replace(rows, memory=self.mitigation.repair(rows.memory, rows.repair, rows.missed))
                return rows
            self._pipeline.drain()
        return self.fetch(n_id)

    def _cut(self) -> None:
        # Shared memory is a view, which cannot be detached in place, and never has a gradient.
        if self.memory.requires_grad:
            self.memory.detach_()

    def _exclusive(self) -> AbstractContextManager[None]:
        return nullcontext() if self._pipeline is None else self._pipeline.exclusive()

    def _write(self, n_id: Tensor, memory: Tensor, last_update: Tensor) -> None:
        n_id = n_id.to(self.memory.device)
        self.memory.index_copy_(0, n_id, memory.to(self.memory))
        self.last_update[n_id] = last_update.to(self.last_update.device)
        self.row_version[n_id] = int(self._num_commits)
        self._num_commits += 1

    def _recall(self, n_id: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Returns memory before and after, and last update, if ``forward`` computed these for all of ``n_id``."""
        known = self._updated
        if known is None or known.made_from != self._made_from() or not known.n_id.numel():
            return None
        if torch.is_grad_enabled() and not known.memory.requires_grad and self._learns():
            return None
        n_id = n_id.to(self._assoc.device)
        position = self._assoc[n_id].clamp(0, known.n_id.numel() - 1)
        if not torch.equal(known.n_id[position], n_id):
            return None
        position = position.to(known.memory.device)
        before = known.memory if self.mitigation is None else known.before.index_select(0, position)
        return before, known.memory.index_select(0, position), known.last_update[position]

    def _learns(self) -> bool:
        return any(x.requires_grad for x in self.parameters())

    def _made_from(self) -> tuple[int, ...]:
        """Returns what changes whenever weights or state are written in place, but for a pipeline's own commits."""
        read = self.parameters() if self._pipeline else (*self.parameters(), *self.buffers())
        return tuple(x._version for x in read)

    def _forget(self, _: Tensor) -> None:
        # After a backward pass the graph is gone, and a fused optimizer changes weights without raising their version.
        self._updated = None

    def __getstate__(self) -> dict[str, object]:
        self.drain()
        # What forward computed is part of a graph, which can be neither copied nor stored.
        return self.__dict__ | {"_updated": None, "_pipeline": None}

    def _new_store(self) -> MessageStore:
        return MessageStore(
            self.num_nodes,
            self.raw_msg_dim,
            dtype=self.memory.dtype,
            device=self.memory.device,
            tie=self._tie_rule() or "last",
        )

    def _apply(self: _Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Self:
        assert isinstance(self, TGNMemory)
        state = {name: self._buffers.pop(name) for name in ("memory", "last_update", "_assoc")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, x in state.items():
            assert x is not None
            target = fn(x[:0]) if self.memory_device is not None else fn(x)
            self._buffers[name] = target if self.memory_device is None else x.to(target.dtype)
        self._store = self._store.to(self.memory.device, self.memory.dtype)
        self.row_version = self.row_version.to(self.memory.device)
        self._updated = None
        return self
