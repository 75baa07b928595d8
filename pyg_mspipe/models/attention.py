"""Temporal graph attention over a padded grid of neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Module

from pyg_mspipe.graph.neighbor_sampler import Hop
from pyg_mspipe.graph.row_sums import gather_rows
from pyg_mspipe.memory.precision import full_precision
from pyg_mspipe.memory.untouched import is_untouched
from pyg_mspipe.models.grid_attention import grid_attention


class TemporalAttention(Module):
    """Multi-head attention of a node over its earlier events.

    Equal to PyG's :class:`~torch_geometric.nn.TransformerConv` (Shi et al. 2021, arXiv 2009.03509) with edge features
    ``[t_enc, msg]``, whose ``state_dict`` it takes as it is. Queries are projected into the space of the inputs, and
    inputs are summed before they are projected, so that no product is as large as edges x channels:

        q . (W_k x + W_e e) = (W_k' q) . x + (W_e' q) . e
        sum_j a_j (W_v x_j + W_e e_j) = W_v (sum_j a_j x_j) + W_e (sum_j a_j e_j)

    and ``msg``, which is constant, takes part in no product of the backward but the weights'.

    Args:
        in_channels: Width of the node inputs.
        out_channels: Width of the output, all heads together.
        time_dim: Width of the time encoding of an edge.
        msg_dim: Width of an edge's message; may be 0.
        heads: Number of heads; divides ``out_channels``.
        dropout: Dropout of the attention weights.

    Raises:
        ValueError: If ``heads`` does not divide ``out_channels``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, time_dim: int, msg_dim: int, *, heads: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if out_channels % heads:
            raise ValueError(f"out_channels={out_channels} is not a multiple of heads={heads}")
        self.heads = heads
        self.dropout = dropout
        self.time_dim = time_dim
        self.lin_key = Linear(in_channels, out_channels)
        self.lin_query = Linear(in_channels, out_channels)
        self.lin_value = Linear(in_channels, out_channels)
        self.lin_edge = Linear(time_dim + msg_dim, out_channels, bias=False)
        self.lin_skip = Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Resets all learnable parameters."""
        for module in (self.lin_key, self.lin_query, self.lin_value, self.lin_edge, self.lin_skip):
            module.reset_parameters()

    def forward(self, x: Tensor, hop: Hop, t_enc: Tensor, msg: Tensor) -> Tensor:
        """Returns the embedding of each target row: [R, out_channels].

        Args:
            x: [S, in_channels], the source rows.
            hop: The edges into ``R`` target rows, ``k`` places each.
            t_enc: [R, k, time_dim], the encoded time of each edge; any finite value where there is no edge.
            msg: [R, k, msg_dim], the message of each edge, as finite where there is none; carries no gradient.
        """
        # Its products are small, and on a CPU those gain nothing from a lower precision.
        with full_precision("cpu"):
            return self._attend(x, hop, t_enc, msg)

    def _attend(self, x: Tensor, hop: Hop, t_enc: Tensor, msg: Tensor) -> Tensor:
        size, k = hop.mask.shape
        heads = self.heads
        x_target = gather_rows(x, hop.target, hop.target_sums)
        x_edge = gather_rows(x, hop.neighbor.view(-1), hop.neighbor_sums).view(size, k, -1)
        inputs = (x_edge, t_enc, msg) if msg.size(-1) else (x_edge, t_enc)
        if not all(is_untouched(lin, Linear) for lin in (self.lin_key, self.lin_value, self.lin_edge)):
            return self._by_calls(x_target, x_edge, torch.cat(inputs[1:], dim=-1), hop.mask)

        width = sum(each.size(-1) for each in inputs)
        weight_key = torch.cat([self.lin_key.weight, self.lin_edge.weight], dim=1).view(heads, -1, width)
        weight_value = torch.cat([self.lin_value.weight, self.lin_edge.weight], dim=1).view(heads, -1, width)

        query = self.lin_query(x_target).view(size, heads, -1) / math.sqrt(weight_key.size(1))
        projected = torch.matmul(query.transpose(0, 1), weight_key).transpose(0, 1)
        offset = (query * self.lin_key.bias.view(heads, -1)).sum(-1, keepdim=True)
        summed, total = grid_attention(
            projected, offset, hop.mask, inputs, dropout=self.dropout if self.training else 0.0
        )
        out = torch.matmul(summed.transpose(0, 1), weight_value.transpose(1, 2)).transpose(0, 1)
        out = out + total * self.lin_value.bias.view(heads, -1)
        embedding: Tensor = out.reshape(size, -1) + self.lin_skip(x_target)
        return embedding

    def _by_calls(self, x_target: Tensor, x_edge: Tensor, edge: Tensor, mask: Tensor) -> Tensor:
        """Returns the same, [R, out_channels], from calls of all layers: for who has hooks on them."""
        size, k = mask.shape
        query = self.lin_query(x_target).view(size, self.heads, 1, -1)
        of_edge = self.lin_edge(edge)
        projected = (lin(x_edge) + of_edge for lin in (self.lin_key, self.lin_value))
        key, value = (each.view(size, k, self.heads, -1).transpose(1, 2) for each in projected)
        score = (query * key).sum(-1) / math.sqrt(key.size(-1))
        known = mask.unsqueeze(1)
        alpha = score.masked_fill(~known, torch.finfo(score.dtype).min).softmax(dim=-1) * known
        alpha = F.dropout(alpha, self.dropout, self.training)
        out: Tensor = (alpha.unsqueeze(-1) * value).sum(dim=2).reshape(size, -1) + self.lin_skip(x_target)
        return out
