"""Message aggregators with a fixed rule for ties."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.models.tgn import LastAggregator as PyGLastAggregator
from torch_geometric.utils import scatter


class LastAggregator(PyGLastAggregator):
    """Keeps each node's latest message; of messages at the same time, the one listed last.

    PyG's own keeps the first of a tie with torch_scatter and the last without. This one does not depend on what is
    installed, nor on the device.
    """

    def forward(self, msg: Tensor, index: Tensor, t: Tensor, dim_size: int) -> Tensor:
        """Returns [dim_size, C]: each node's latest message, zeros for a node without any.

        Args:
            msg: [M, C].
            index: Int64[M], the node of each message.
            t: Int64[M], times.
            dim_size: Number of nodes.
        """
        latest = scatter(t, index, 0, dim_size, reduce="max")[index]
        position = torch.where(t == latest, torch.arange(1, t.numel() + 1, device=t.device), 0)
        # Shifted by one, so that 0 says that a node has no message.
        position = scatter(position, index, 0, dim_size, reduce="max")
        found = position > 0
        out = msg.new_zeros(dim_size, msg.size(-1))
        out[found] = msg[position[found] - 1]
        return out
