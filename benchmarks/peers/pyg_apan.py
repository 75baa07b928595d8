"""APAN as one builds it with PyG: mailboxes in plain tensors, and ``LastNeighborLoader`` to find who gets mail."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LayerNorm, Linear, Module
from torch_geometric.nn.models.tgn import LastNeighborLoader, TimeEncoder

from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, DROPOUT, HEADS, NUM_NEIGHBORS
from benchmarks.peers.pyg_jodie import RowLoop

_MAILS = 10


class MailboxMemory(Module):
    """Rows that attend to the last mails of their node, and the mails' delivery to both ends and their neighbours.

    Args:
        num_nodes: Number of nodes.
        msg_dim: Width of the messages.
    """

    def __init__(self, num_nodes: int, msg_dim: int) -> None:
        super().__init__()
        width = 2 * DIM + msg_dim
        self.time_enc = TimeEncoder(DIM)
        self.lin_query = Linear(DIM, DIM)
        self.lin_key, self.lin_value = Linear(width + DIM, DIM), Linear(width + DIM, DIM)
        self.norm = LayerNorm(DIM)
        self.lin_out = Linear(DIM, DIM)
        self.neighbors = LastNeighborLoader(num_nodes, NUM_NEIGHBORS)
        self.memory = torch.zeros(num_nodes, DIM)
        self.last_update = torch.zeros(num_nodes, dtype=torch.long)
        self.mail = torch.zeros(num_nodes, _MAILS, width)
        self.mail_time = torch.zeros(num_nodes, _MAILS, dtype=torch.long)
        self.received = torch.zeros(num_nodes, dtype=torch.long)
        self.now = 0
        self.read: tuple[Tensor, Tensor] = (self.received[:0], self.memory[:0])

    def reset_state(self) -> None:
        """Forgets all rows, mails and neighbours."""
        for table in (self.memory, self.last_update, self.mail, self.mail_time, self.received):
            table.zero_()
        self.neighbors.reset_state()
        self.now = 0

    def detach(self) -> None:
        """Does nothing: what is kept has no gradient."""

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor]:
        """Returns new rows, [U, DIM], and the time of the last event in them: Int64[U]."""
        row = self.memory[n_id]
        age = (self.now - self.mail_time[n_id]).float()
        mail = torch.cat([self.mail[n_id], self.time_enc(age.view(-1)).view(*age.shape, DIM)], dim=-1)
        key, value = (lin(mail).view(len(n_id), _MAILS, HEADS, -1) for lin in (self.lin_key, self.lin_value))
        query = self.lin_query(row).view(len(n_id), 1, HEADS, -1)
        there = torch.arange(_MAILS) < self.received[n_id].unsqueeze(1)
        score = F.leaky_relu((query * key).sum(-1), 0.2).masked_fill(~there.unsqueeze(2), -1e9)
        weight = score.softmax(dim=1) * there.any(1)[:, None, None]
        out = self.norm((weight.unsqueeze(-1) * value).sum(1).flatten(1) + row)
        out = F.dropout(self.lin_out(out), DROPOUT, self.training).relu()
        self.read = n_id, out.detach()
        return out, self.last_update[n_id]

    @torch.no_grad()
    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None:
        """Keeps the rows of the batch's nodes and delivers its mails."""
        n_id, row = self.read
        ends = torch.cat([src, dst])
        mine = torch.isin(n_id, ends)
        self.memory[n_id[mine]] = row[mine]
        order = torch.cat([t, t]).argsort(stable=True)
        self.last_update[ends[order]] = torch.cat([t, t])[order]
        mail = torch.cat([self.memory[src], self.memory[dst], raw_msg], dim=1)
        back = torch.cat([self.memory[dst], self.memory[src], raw_msg], dim=1)
        near, edge_index, _ = self.neighbors(ends.unique())
        place = torch.searchsorted(near, ends)
        # A recipient gets the mail of the last event that reaches it: an end, or a neighbour of one.
        last = torch.full((self.memory.size(0),), -1)
        number = torch.arange(len(src)).repeat(2)
        of_end = torch.full((near.numel(),), -1).scatter_reduce_(0, place, number, "amax")
        reached, by = near[edge_index[0]], of_end[edge_index[1]]
        last.scatter_reduce_(0, reached, by, "amax")
        last.scatter_reduce_(0, ends, number, "amax")
        who = (last >= 0).nonzero().view(-1)
        event = last[who]
        letter = torch.where((dst[event] == who).unsqueeze(1), back[event], mail[event])
        slot = self.received[who] % _MAILS
        self.mail[who, slot], self.mail_time[who, slot] = letter, t[event]
        self.received[who] += 1
        self.neighbors.insert(src, dst)
        self.now = int(t[-1])


class Norm(Module):
    """The layer norm that embeds a row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = LayerNorm(DIM)

    def forward(self, z: Tensor, last_update: Tensor, t: Tensor) -> Tensor:
        """Returns embeddings: [B, DIM]."""
        out: Tensor = self.norm(z)
        return out


def start(workload: Workload, seed: int) -> RowLoop:
    """Returns the loop with such a memory."""
    torch.manual_seed(seed)
    return RowLoop(workload, MailboxMemory(workload.num_nodes, workload.msg_dim), Norm())
