"""The head that scores a pair of nodes by the neighbours that they have in common."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear

from pyg_mspipe.graph.common_neighbors import ORDERS
from pyg_mspipe.models.link_predictor import LinkPredictor
from pyg_mspipe.pipeline.pairs import Pairs


class CommonNeighborPredictor(LinkPredictor):
    """A :class:`LinkPredictor` that also sees products and common neighbours, after TNCN (arXiv 2406.07926).

    ``W_x (z_src * z_dst) + W_c [c_0, n_0, c_1, n_1, c_2, n_2]`` is added before the ``relu``: ``c_h`` is the sum of
    what the model knows of each of the ``n_h`` common neighbours of ``h`` hops, see
    :class:`~pyg_mspipe.graph.CommonNeighborFinder`.

    Args:
        in_channels: Width of the embeddings.
        row_dim: Width of the rows of nodes.
        pair_dim: Width of the features of pairs; 0 without any.
    """

    def __init__(self, in_channels: int, row_dim: int, *, pair_dim: int = 0) -> None:
        super().__init__(in_channels, pair_dim=pair_dim)
        self.lin_product = Linear(in_channels, in_channels, bias=False)
        self.lin_common = Linear(ORDERS * (row_dim + 1), in_channels, bias=False)

    def of_pairs(self, z: Tensor, src: Tensor, dst: Tensor, pairs: Pairs, node_rows: Tensor | None) -> Tensor:
        """Returns what is added before the ``relu`` for what is known of pairs: [B, C, in_channels].

        Args:
            z: [R, in_channels].
            src: Int64[B, 1] or Int64[B, C], rows.
            dst: Int64[B, C], rows.
            pairs: What is known, with common neighbours.
            node_rows: [U, row_dim], what is known of the nodes that common neighbours may be.
        """
        assert pairs.common is not None
        assert node_rows is not None
        own, other = (z.index_select(0, each.reshape(-1)).view(*each.shape, -1) for each in (src, dst))
        hidden: Tensor = self.lin_product(own * other)
        if self.lin_pair is not None:
            hidden = hidden + super().of_pairs(z, src, dst, pairs, node_rows)
        common = pairs.common
        num_slots = ORDERS * common.pair.numel()
        rows = node_rows.index_select(0, common.node)
        total = rows.new_zeros(num_slots, rows.size(1)).index_add_(0, common.slot, rows)
        count = rows.new_zeros(num_slots).index_add_(0, common.slot, rows.new_ones(common.slot.numel()))
        known = torch.cat([total, count.unsqueeze(1)], dim=1).view(-1, self.lin_common.in_features)
        # Few of many pairs have any common neighbour: the others cost nothing.
        flat = hidden.view(-1, hidden.size(-1)).index_add(0, common.pair, self.lin_common(known))
        return flat.view_as(hidden)
