"""From what was read of node memory to its new rows: messages, aggregation and the GRU."""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch_geometric.typing
from torch import Tensor
from torch.nn import GRUCell, Module, RNNCell
from torch_geometric.nn.models.tgn import IdentityMessage
from torch_geometric.nn.models.tgn import LastAggregator as PyGLastAggregator

from pyg_mspipe._choices import TimeInit
from pyg_mspipe.graph.segment import segment_max
from pyg_mspipe.memory.aggregators import LastAggregator
from pyg_mspipe.memory.gru_update import gru_update
from pyg_mspipe.memory.messages import LatestMessages, PendingMessages, TieRule
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.time_encoder import TimeEncoder
from pyg_mspipe.memory.untouched import is_untouched

Cell = Literal["gru", "rnn"]
"""What computes a new row from an old one and its message: a GRU, or a plain recurrent cell with tanh."""


class MemoryUpdater(Module):
    """The part of a memory that learns: it computes new rows of nodes from what was read, and keeps none.

    Args:
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        message_module: Makes messages, see :class:`~pyg_mspipe.TGNMemory`.
        aggregator_module: Makes one message of a node's several, see :class:`~pyg_mspipe.TGNMemory`.
        time_init: Where the time encoder starts, see :class:`TimeEncoder`.
        mitigation: What is done about rows that a pipeline fetched too early.
        cell: What computes new rows; in the ``state_dict`` it is ``gru`` whatever it is, as in PyG.
    """

    def __init__(
        self,
        memory_dim: int,
        time_dim: int,
        message_module: Module,
        aggregator_module: Module,
        time_init: TimeInit,
        mitigation: Mitigation | None,
        cell: Cell = "gru",
    ) -> None:
        super().__init__()
        self.memory_dim = memory_dim
        self.time_dim = time_dim
        self.msg_s_module = message_module
        self.msg_d_module = copy.deepcopy(message_module)
        self.aggr_module = aggregator_module
        self.time_enc = TimeEncoder(time_dim, time_init)
        kind = GRUCell if cell == "gru" else RNNCell
        self.gru: GRUCell | RNNCell = kind(message_module.out_channels, memory_dim)  # type: ignore[arg-type]
        self.mitigation = mitigation

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which memory is computed."""
        weight: Tensor = self.time_enc.lin.weight
        return weight.device

    def reset_parameters(self) -> None:
        """Resets all learnable parameters."""
        for module in (self.msg_s_module, self.msg_d_module, self.aggr_module, self.mitigation):
            if module is not None and hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        self.time_enc.reset_parameters()
        self.gru.reset_parameters()

    def compute(
        self,
        memory: Tensor,
        last_update: Tensor,
        messages: LatestMessages | PendingMessages,
        other: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns new rows, [U, memory_dim], and last updates, Int64[U], of nodes, with their messages applied.

        Args:
            memory: [U, memory_dim], the rows.
            last_update: Int64[U], time of the last event that each row has taken in.
            messages: What waits for them.
            other: The rows at the other ends of the messages, [M, memory_dim] or [U, memory_dim].
        """
        if isinstance(messages, LatestMessages):
            return self._compute_latest(memory, last_update, messages, other)
        return self._compute_all(memory, last_update, messages, other)

    def _compute_latest(
        self, memory: Tensor, last_update: Tensor, latest: LatestMessages, other: Tensor
    ) -> tuple[Tensor, Tensor]:
        updated = latest.t.masked_fill(~latest.valid, 0)
        elapsed = torch.where(latest.valid, latest.t - last_update, 0)
        t_enc = self.time_enc(elapsed.to(latest.raw_msg.dtype))
        joins = all(is_untouched(each, IdentityMessage) for each in (self.msg_s_module, self.msg_d_module))
        compiled = torch.compiler.is_compiling()  # which makes a backward of its own
        if joins and not compiled and is_untouched(self.gru, GRUCell) and self.gru.bias and not memory.requires_grad:
            assert isinstance(self.gru, GRUCell)
            # A GPU's host would wait for positions, and a CPU has less to do with them.
            empty = ~latest.valid if memory.is_cuda else (~latest.valid).nonzero().view(-1)
            return gru_update(self.gru, memory, (other, latest.raw_msg), t_enc, empty), updated

        if joins:
            message = torch.cat([memory, other, latest.raw_msg, t_enc], dim=1)
            return self.gru(message.masked_fill(~latest.valid.unsqueeze(1), 0), memory), updated

        message = t_enc.new_zeros(memory.size(0), int(self.msg_s_module.out_channels))  # type: ignore[arg-type]
        for module, role in ((self.msg_s_module, latest.is_source), (self.msg_d_module, ~latest.is_source)):
            row = (latest.valid & role).nonzero().view(-1)
            sent = module(memory[row], other[row], latest.raw_msg[row], t_enc[row])
            message = message.index_copy(0, row, sent.to(message.dtype))
        return self.gru(message, memory), updated

    def _compute_all(
        self, memory: Tensor, last_update: Tensor, pending: PendingMessages, other: Tensor
    ) -> tuple[Tensor, Tensor]:
        t_enc = self.time_enc((pending.t - last_update[pending.row]).to(pending.raw_msg.dtype))
        own = memory[pending.row]
        messages = [
            module(own[part], other[part], pending.raw_msg[part], t_enc[part])
            for module, part in (
                (self.msg_s_module, slice(None, pending.num_source)),
                (self.msg_d_module, slice(pending.num_source, None)),
            )
        ]
        size = memory.size(0)
        aggregated = self.aggr_module(torch.cat(messages), pending.row, pending.t, size)
        row, order = pending.row.sort(stable=True)
        ptr = torch.searchsorted(row, torch.arange(size + 1, device=row.device))
        return self.gru(aggregated, memory), segment_max(pending.t[order], ptr)

    def tie_rule(self) -> TieRule | None:
        """Returns how ties are broken where one message for each node is enough, else nothing."""
        if type(self.aggr_module) is LastAggregator:
            return "event"
        if type(self.aggr_module) is PyGLastAggregator:
            return "first" if torch_geometric.typing.WITH_TORCH_SCATTER else "last"
        return None
