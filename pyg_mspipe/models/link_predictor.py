"""The head that scores a pair of nodes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Linear, Module


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
