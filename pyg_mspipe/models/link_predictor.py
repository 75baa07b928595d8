"""The head that scores a pair of nodes."""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor
from torch.nn import Linear, Module

from pyg_mspipe.pipeline.pairs import Pairs

BLOCK = 4096
"""Pairs that are scored at once: what is computed for them stays in the cache of a CPU."""


class LinkPredictor(Module):
    """Scores pairs by ``w . relu(W_s z_src + W_d z_dst + b)``, as in PyG's TGN example.

    With features ``f`` of pairs, ``W_p f`` is added before the ``relu``.

    Args:
        in_channels: Width of the embeddings.
        pair_dim: Width of the features of pairs; 0 without any.
    """

    def __init__(self, in_channels: int, *, pair_dim: int = 0) -> None:
        super().__init__()
        self.lin_src = Linear(in_channels, in_channels)
        self.lin_dst = Linear(in_channels, in_channels)
        self.lin_final = Linear(in_channels, 1)
        # Last, so that the other weights start as they do without it.
        self.lin_pair = Linear(pair_dim, in_channels, bias=False) if pair_dim else None

    def reset_parameters(self) -> None:
        """Resets all learnable parameters."""
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    def forward(self, z_src: Tensor, z_dst: Tensor) -> Tensor:
        """Returns logits, [..., 1], where nothing is known of pairs but the embeddings.

        Args:
            z_src: [..., in_channels]; broadcasts against ``z_dst``, so one source is projected once for all its pairs.
            z_dst: [..., in_channels].
        """
        score: Tensor = self.lin_final((self.lin_src(z_src) + self.lin_dst(z_dst)).relu())
        return score

    def score_rows(
        self, z: Tensor, src: Tensor, dst: Tensor, pairs: Pairs | None = None, node_rows: Tensor | None = None
    ) -> Tensor:
        """Returns logits of pairs of rows: [B, C]. Each row is projected once, and pairs are scored in blocks.

        Args:
            z: [R, in_channels].
            src: Int64[B], a row for all pairs of an event, or Int64[B, C].
            dst: Int64[B, C], rows.
            pairs: What is known of the pairs beside, if this head reads it.
            node_rows: [U, row_dim], what is known of the nodes that ``pairs`` names, if this head reads it.
        """
        a, b = self.lin_src(z), self.lin_dst(z)
        step = max(BLOCK // max(dst.size(1), 1), 1)
        owns, others = src.split(step), dst.split(step)
        known = repeat(None) if pairs is None else pairs.blocks(step, dst.size(1), len(others))
        parts = []
        for own, other, beside in zip(owns, others, known, strict=False):
            hidden = b.index_select(0, other.reshape(-1)).view(*other.shape, -1)
            hidden += a.index_select(0, own.reshape(-1)).view(own.size(0), -1, hidden.size(-1))
            if beside is not None:
                hidden += self.of_pairs(z, own.view(own.size(0), -1), other, beside, node_rows)
            parts.append(self.lin_final(hidden.relu_()).squeeze(-1))
        return torch.cat(parts) if parts else z.new_empty(dst.shape)

    def of_pairs(self, z: Tensor, src: Tensor, dst: Tensor, pairs: Pairs, node_rows: Tensor | None) -> Tensor:
        """Returns what is added before the ``relu`` for what is known of pairs: [B, C, in_channels].

        Args:
            z: [R, in_channels].
            src: Int64[B, 1] or Int64[B, C], rows.
            dst: Int64[B, C], rows.
            pairs: What is known.
            node_rows: [U, row_dim], passed over.
        """
        assert self.lin_pair is not None
        assert pairs.features is not None
        out: Tensor = self.lin_pair(pairs.features.transpose(0, 1))
        return out
