"""The memory of APAN: a row for each node and a mailbox, which attention reads."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LayerNorm, Linear

from pyg_mspipe._choices import TimeInit
from pyg_mspipe.memory.mailbox import MAIL, MAIL_TIME, RECEIVED, Mails, mail_tables
from pyg_mspipe.memory.mitigation import Mitigation
from pyg_mspipe.memory.node_memory import MemoryBatch, NodeMemory
from pyg_mspipe.memory.plan import plan_mails
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit
from pyg_mspipe.memory.stream_memory import node_tables
from pyg_mspipe.memory.time_encoder import TimeEncoder


class MailMemory(NodeMemory):
    """Rows that attention over a node's mailbox updates (Wang et al. 2021, arXiv 2011.11545), built as in TGL.

    A batch reads a node's row ``s_u`` and its mails, each ``[s_u, s_v, e]`` of an event, and computes a new row::

        k_j, v_j = W_k|W_v [mail_j, phi(now - t_j)],   alpha = softmax_j LeakyReLU(W_q s_u . k_j)
        s_u <- ReLU(Dropout(W LayerNorm(sum_j alpha_j v_j + s_u)))

    in several heads, where ``now`` is the time of the batch's first event. The batch's events are then mailed, with the
    new rows, to both their ends and to the recent neighbours of each; a mailbox keeps the last ones. Places that no
    mail has filled yet take no part in the attention; TGL reads them as mails of zeros. Mails are read where they are,
    again and again, so nothing waits to be settled, and evaluation commits as training does.

    Args:
        num_nodes: Number of nodes ``N``.
        msg_dim: Width of the events' messages; may be 0.
        memory_dim: Width of the memory.
        time_dim: Width of the time encoding.
        num_mails: Places of a mailbox.
        fan_out: How many recent neighbours of an end get its mail.
        heads: Attention heads; divides ``memory_dim``.
        dropout: Dropout of the new rows.
        memory_device: Where the rows are kept, by default with the weights.
        time_init: Where the time encoder starts, see :class:`TimeEncoder`.
        mitigation: What is done about rows that a pipeline fetched too early.

    Raises:
        ValueError: If ``heads`` does not divide ``memory_dim``.
    """

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int,
        memory_dim: int,
        time_dim: int,
        *,
        num_mails: int = 10,
        fan_out: int = 10,
        heads: int = 2,
        dropout: float = 0.1,
        memory_device: torch.device | str | None = None,
        time_init: TimeInit = "random",
        mitigation: Mitigation | None = None,
    ) -> None:
        super().__init__()
        if memory_dim % heads:
            raise ValueError(f"memory_dim={memory_dim} is not a multiple of heads={heads}; change either")
        self.memory_dim = memory_dim
        self.make_plan = partial(plan_mails, fan_out=fan_out)
        self.heads = heads
        self.dropout = dropout
        self.mitigation = mitigation
        mail_dim = 2 * memory_dim + msg_dim
        self.time_enc = TimeEncoder(time_dim, time_init)
        self.lin_query = Linear(memory_dim, memory_dim)
        self.lin_key = Linear(mail_dim + time_dim, memory_dim)
        self.lin_value = Linear(mail_dim + time_dim, memory_dim)
        self.norm = LayerNorm(memory_dim)
        self.lin_out = Linear(memory_dim, memory_dim)
        self.memory_device = None if memory_device is None else torch.device(memory_device)
        tables = node_tables(num_nodes, memory_dim, self.memory_device)
        tables |= mail_tables(num_nodes, num_mails, mail_dim, self.memory_device)
        self.state = RowState(tables, mitigation, blank=True)

    def forward(self, batch: MemoryBatch) -> tuple[Tensor, Tensor]:
        """Returns the new rows of a batch's nodes and their last updates, as :meth:`NodeMemory.forward`."""
        plan = batch.plan
        assert plan is not None
        assert plan.deliveries is not None
        rows, before = self._read(batch)
        values = rows.values
        memory = self._read_mails(before, values[MAIL], values[MAIL_TIME], values[RECEIVED], plan.deliveries.now)
        self._updated = batch, before, memory
        return memory, values["last_update"]

    def _read_mails(self, memory: Tensor, mail: Tensor, mail_time: Tensor, received: Tensor, now: Tensor) -> Tensor:
        """Returns new rows: [U, memory_dim]."""
        size, places, width = mail.shape
        t_enc = self.time_enc((now - mail_time).view(-1).to(memory.dtype)).view(size, places, -1)
        query = self.lin_query(memory).view(size, self.heads, -1).transpose(0, 1)
        key, value = (lin.weight.view(self.heads, -1, lin.in_features) for lin in (self.lin_key, self.lin_value))
        # q . (W x + b) = (W' q) . x + q . b, and the mean of W x is W of the mean: the wide products are taken once for
        # each node, not for each mail.
        asked = torch.bmm(query, key).transpose(0, 1)
        offset = torch.bmm(query, self.lin_key.bias.view(self.heads, -1, 1)).transpose(0, 1)
        score = torch.baddbmm(offset, asked[..., :width], mail.transpose(1, 2))
        score = F.leaky_relu(torch.baddbmm(score, asked[..., width:], t_enc.transpose(1, 2)), 0.2)
        filled = (torch.arange(places, device=mail.device) < received.unsqueeze(1)).unsqueeze(1)
        alpha = score.masked_fill(~filled, torch.finfo(score.dtype).min).softmax(dim=-1) * filled
        summed = torch.cat([torch.bmm(alpha, mail), torch.bmm(alpha, t_enc)], dim=-1).transpose(0, 1)
        told = torch.bmm(summed, value.transpose(1, 2)).transpose(0, 1).reshape(size, -1)
        told = told + self.lin_value.bias * filled.any(dim=-1)
        out = self.lin_out(self.norm(told + memory))
        return F.dropout(out, self.dropout, self.training).relu()

    @torch.no_grad()
    def commit(self, batch: MemoryBatch) -> Commit:
        """Returns new rows of the ends of a batch's events, and the mails, as :meth:`NodeMemory.commit`."""
        plan = batch.plan
        assert plan is not None
        before, memory = self._computed(batch)
        n_id = plan.n_id.index_select(0, plan.committed)
        ends = torch.searchsorted(n_id, torch.cat([batch.src, batch.dst]))
        last = torch.zeros_like(n_id).scatter_reduce_(0, ends, batch.t.repeat(2), "amax", include_self=False)
        to = plan.deliveries
        assert to is not None
        parts = (memory.index_select(0, to.own), memory.index_select(0, to.other), batch.msg.index_select(0, to.event))
        mails = Mails(to.n_id, torch.cat(parts, dim=1), batch.t.index_select(0, to.event))
        rows = {"memory": memory.index_select(0, plan.committed), "last_update": last}
        kept = None if self.mitigation is None else before.index_select(0, plan.committed)
        return Commit(n_id, rows, batch.events.stop, kept, mails, ends=n_id)
