"""PyG's ``TGNMemory`` with pending messages in tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from pyg_mspipe._choices import TimeInit
from pyg_mspipe.data.tensor_tree import ship
from pyg_mspipe.memory.checks import check_events, check_ids, check_overrides, note_namesakes
from pyg_mspipe.memory.kept_tensors import KeptTensors
from pyg_mspipe.memory.memory_updater import MemoryUpdater
from pyg_mspipe.memory.message_rows import MessageCommit, MessageRows
from pyg_mspipe.memory.message_state import MessageState
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.recall import Recall
from pyg_mspipe.memory.whole import whole

_Self = TypeVar("_Self", bound=Module)

# Nodes whose memory is flushed at once; bounds the messages that exist at a time.
_FLUSH_CHUNK = 1 << 14


class TGNMemory(KeptTensors, MemoryUpdater):
    """The memory of the Temporal Graph Network (Rossi et al. 2020, arXiv 2006.10637), a drop-in for PyG's.

    Same constructor, modules, methods, ``state_dict`` keys and numbers as :class:`torch_geometric.nn.TGNMemory`. What
    differs: messages are kept in tensors, so a step costs no Python work per node or event; ``update_state`` takes over
    what ``forward`` has just computed for the same nodes; a node without messages never receives another node's (as it
    does in PyG with ``LastAggregator`` where torch_scatter is missing); and the state is no buffer, so that
    ``DistributedDataParallel`` leaves each process its own.

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

    Raises:
        TypeError: If a subclass has methods in place of PyG's private ones, which nothing would call.

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

    kept = ("memory", "last_update", "_assoc")

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
        check_overrides(type(self))
        note_namesakes(message_module, aggregator_module)
        super().__init__(memory_dim, time_dim, message_module, aggregator_module, time_init, mitigation)
        self.num_nodes = num_nodes
        self.raw_msg_dim = raw_msg_dim
        self.memory_device = None if memory_device is None else torch.device(memory_device)

        self.memory = torch.zeros(num_nodes, memory_dim, device=self.memory_device)
        self.last_update = torch.zeros(num_nodes, dtype=torch.long, device=self.memory_device)
        # Position of a node in what forward computed last. PyG has it in its state_dict too.
        self._assoc = torch.zeros(num_nodes, dtype=torch.long, device=self.memory_device)

        self._state = MessageState(self.memory, self.last_update, raw_msg_dim, self.tie_rule(), mitigation)
        self._recall = Recall(self)
        self.reset_parameters()

    @property
    def state(self) -> MessageState:
        """What is kept of each node, as pipelines know it."""
        if self._state.memory is not self.memory:  # another tensor was put in its place
            self._state.follow(self.memory, self.last_update)
        return self._state

    def reset_parameters(self) -> None:
        """Resets all learnable parameters, and the state."""
        super().reset_parameters()
        self.reset_state()

    def reset_state(self) -> None:
        """Sets memory and last updates to zero and forgets all messages.

        Raises:
            RuntimeError: If a pipeline is running, whose rows would be those of before.
        """
        if self.state.pipeline is not None:
            raise RuntimeError("reset_state while a pipeline is running; finish or close its loader first")
        self.state.clear()
        self._recall.clear()

    def detach(self) -> None:
        """Cuts the memory off from the gradient computation of the steps so far."""
        self.state.cut()
        self._recall.clear()

    # What a batch needs of the state differs from batch to batch, so that compiled code would be compiled ever anew.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the current memory of nodes and the time of their last update.

        In training mode pending messages are applied first, without changing the state; a node that has none then has
        its last update at 0, as in PyG.

        Args:
            n_id: Int64[U], unique.

        Returns:
            Memory, [U, memory_dim], and last update, Int64[U], on the weights' device.

        Raises:
            ValueError: If ``n_id`` holds what is no node's id.
        """
        check_ids("n_id", n_id, self.num_nodes)
        if not self.training:
            n_id = n_id.to(self.memory.device)
            return self.memory[n_id].to(self.device), self.last_update[n_id].to(self.device)
        rows = self._fetched(n_id)
        memory, last_update = self._compute(rows)
        n_id = n_id.to(self.memory.device)
        alone = self.state.pipeline is None
        self._recall.keep(n_id, rows.memory, memory, last_update, place=self._assoc, alone=alone)
        return memory, last_update

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None:
        """Takes new events into the state: applies the pending messages of their nodes and stores the new ones.

        In evaluation mode it is the other way round, so that the events are in the memory at once.

        Args:
            src: Int64[B].
            dst: Int64[B].
            t: Int64[B].
            raw_msg: [B, raw_msg_dim]; kept without its gradient.

        Raises:
            ValueError: If ``t`` is not integral, a shape is another one, or an id is no node's; the state is as it was.
        """
        check_events(src, dst, t, self.num_nodes)
        if tuple(raw_msg.shape) != (src.numel(), self.raw_msg_dim):
            expected = (src.numel(), self.raw_msg_dim)
            raise ValueError(f"raw_msg has shape {tuple(raw_msg.shape)}, not {expected}; give a row for each event")
        if self.training:
            commit = self._commit(src, dst, t, raw_msg)
            if self.state.pipeline is None:
                with whole():
                    self.state.apply(commit)
            else:
                self.state.pipeline.commit(commit.detach())
        else:
            with self.state.exclusive(), whole():
                self.state.store.append(*(x.to(self.memory.device) for x in (src, dst, t, raw_msg)))
                nodes = torch.cat([src, dst]).unique()
                self.state.write(nodes, *self._compute(self._read(nodes)))
        self._recall.clear()

    def memory_state(self) -> dict[str, Tensor]:
        """Returns node memory with its pending messages, and the mode they belong to, as a flat dictionary of tensors.

        Together with ``state_dict`` this is the whole module: training or evaluation goes on from it as if it had not
        been interrupted.
        """
        with self.state.still():
            return self.state.content() | {"training": torch.tensor(self.training)}

    def load_memory_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what :meth:`memory_state` gave, from any device, and the mode that it was in.

        Pending messages are part of the memory in evaluation mode and still to come in training mode, so that the state
        means nothing in the other one.

        Args:
            state: The state of a module of the same sizes.

        Raises:
            ValueError: If it is the state of another number of nodes or width.
        """
        with self.state.exclusive():
            self.state.load(state)
            self._recall.clear()
            self._set_mode(bool(state["training"]))

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Returns parameters and state, with all commits applied."""
        self.state.drain()
        return super().state_dict(*args, **options)

    def train(self: _Self, mode: bool = True) -> _Self:
        """Sets the mode and returns the module. Leaving training mode applies all pending messages and forgets them.

        Args:
            mode: Whether to train, rather than to evaluate.
        """
        assert isinstance(self, TGNMemory)
        with self.state.exclusive() if mode != self.training else nullcontext():
            if self.training and not mode:
                self._flush()
            self._recall.clear()
            return self._set_mode(mode)

    def _set_mode(self: _Self, mode: bool) -> _Self:
        assert isinstance(self, TGNMemory)
        self.state.serves = mode
        return super().train(mode)

    @torch.no_grad()
    def _flush(self) -> None:
        memory, last_update = torch.empty_like(self.memory), torch.empty_like(self.last_update)
        for n_id in torch.arange(self.num_nodes, device=memory.device).split(_FLUSH_CHUNK):
            memory[n_id], last_update[n_id] = (x.to(memory.device) for x in self._compute(self._read(n_id)))
        self.state.settle(memory, last_update)
        self._recall.clear()

    def _commit(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> MessageCommit:
        # As the store keeps them, so that what is forwarded is what would be fetched.
        src, dst, t = (x.long().contiguous() for x in (src, dst, t))
        raw_msg = raw_msg.to(self.memory.dtype)
        nodes = torch.cat([src, dst]).unique()
        computed = self._recall.find(nodes, place=self._assoc, alone=self.state.pipeline is None)
        if computed is None:
            rows = self._fetched(nodes)
            computed = rows.memory, *self._compute(rows)
        before, memory, last_update = computed
        kept = None if self.mitigation is None else before
        return MessageCommit(nodes, memory, last_update, src, dst, t, raw_msg, kept)

    def _fetched(self, n_id: Tensor) -> MessageRows:
        """Returns rows that were prefetched for just these nodes, mitigated, or else reads them from the state."""
        pipeline = self.state.pipeline
        if pipeline is not None:
            rows: MessageRows | None = pipeline.fetched()
            if rows is not None and (rows.n_id is n_id or torch.equal(rows.n_id, n_id)):
                if self.mitigation is not None and rows.missed is not None:
                    rows = replace(rows, memory=self.mitigation.repair(rows.memory, rows.repair, rows.missed))
                return rows
            pipeline.drain()
        return self._read(n_id)

    def _read(self, n_id: Tensor) -> MessageRows:
        """Returns what the state holds of nodes, Int64[U], on the weights' device."""
        rows = self.state.read(n_id)
        return rows if self.memory.device == self.device else ship(rows, self.device)

    def _compute(self, rows: MessageRows) -> tuple[Tensor, Tensor]:
        return self.compute(rows.memory, rows.last_update, rows.messages, rows.other)

    def __getstate__(self) -> dict[str, object]:
        self.state.drain()
        return self.__dict__

    def _apply(self: _Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Self:
        assert isinstance(self, TGNMemory)
        super()._apply(fn, recurse)
        self._recall.clear()
        return self

    def _moved(self, x: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
        return fn(x) if self.memory_device is None else x.to(fn(x[:0]).dtype)
