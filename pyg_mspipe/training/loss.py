"""The loss of link prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOSS_BLOCK = 20
"""Losses are fetched from the device this many batches at a time."""


def link_loss(logits: Tensor) -> Tensor:
    """Returns the binary cross entropy of events plus that of their negatives, each a mean: Float32[].

    Args:
        logits: [1 + K, B], the events' own in row 0.
    """
    positive = F.binary_cross_entropy_with_logits(logits[0], torch.ones_like(logits[0]))
    return positive + F.binary_cross_entropy_with_logits(logits[1:], torch.zeros_like(logits[1:]))
