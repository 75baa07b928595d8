"""Mitigation by the gradient: what was computed from stale rows teaches less."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.memory.mitigation.base import Mitigation


class _DividedGradient(torch.autograd.Function):
    """The identity, whose gradient is divided row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, divisor: Tensor) -> Tensor:
        ctx.save_for_backward(divisor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (divisor,) = ctx.saved_tensors
        return grad / divisor.to(grad.dtype).unsqueeze(1), None


class GradientMitigation(Mitigation):
    """Divides the gradient that flows out of a row by one more than the number of commits that the row missed.

    The loss is that of no mitigation; weights are moved less by what was computed from old rows.
    """

    def scale_gradient(self, memory: Tensor, missed: Tensor) -> Tensor:
        """Returns ``memory``; its gradient is divided by ``1 + missed``, as :meth:`Mitigation.scale_gradient`."""
        out: Tensor = _DividedGradient.apply(memory, 1 + missed)  # type: ignore[no-untyped-call]
        return out
