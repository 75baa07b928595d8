"""The head that scores a pair of nodes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear, Module

BLOCK = 4096
"""Pairs that are scored at once: what is computed for them stays in the cache of a CPU."""


class LinkPredictor(Module):
    """Scores pairs by ``w . relu(W_s z_src + W_d z_dst + b)``, as in PyG's TGN example.

    Args:
        in_channels: Width of the embeddings.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.lin_src = Linear(in_channels, in_channels)
        self.lin_dst = Linear(in_channels, in_channels)
        self.lin_final = Linear(in_channels, 1)

    def reset_parameters(self) -> None:
        """Resets all learnable parameters."""
        for module in (self.lin_src, self.lin_dst, self.lin_final):
            module.reset_parameters()

    def forward(self, z_src: Tensor, z_dst: Tensor) -> Tensor:
        """Returns logits, [..., 1].

        Args:
            z_src: [..., in_channels]; broadcasts against ``z_dst``, so one source is projected once for all its pairs.
            z_dst: [..., in_channels].
        """
        score: Tensor = self.lin_final((self.lin_src(z_src) + self.lin_dst(z_dst)).relu())
        return score

    def score_rows(self, z: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        """Returns logits of pairs of rows: [B, C]. Each row is projected once, and pairs are scored in blocks.

        Args:
            z: [R, in_channels].
            src: Int64[B], a row for all pairs of an event, or Int64[B, C].
            dst: Int64[B, C], rows.
        """
        a, b = self.lin_src(z), self.lin_dst(z)
        parts = []
        for own, other in zip(src.split(self._rows(dst)), dst.split(self._rows(dst)), strict=True):
            hidden = b.index_select(0, other.reshape(-1)).view(*other.shape, -1)
            hidden += a.index_select(0, own.reshape(-1)).view(own.size(0), -1, hidden.size(-1))
            parts.append(self.lin_final(hidden.relu_()).squeeze(-1))
        return torch.cat(parts) if parts else z.new_empty(dst.shape)

    @staticmethod
    def _rows(dst: Tensor) -> int:
        """Returns how many events are scored at once."""
        return max(BLOCK // max(dst.size(1), 1), 1)
