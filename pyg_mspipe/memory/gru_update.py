"""The GRU step of node memory, computing only the gradients that somebody needs.

Old memory and raw messages are constants of a training step: they were detached when the step before ended. Of a
message, the time encoding alone carries a gradient, so the backward of the input product is cut down to its columns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import GRUCell

# Rows of a low precision product are rounded up to a multiple of this.
_ROW_BLOCK = 64


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype in which matrix products of ``x`` are to be computed: autocast's where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _joined(parts: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """Returns ``cat(parts, dim=1)`` in ``dtype``, with rows of zeros added where that makes products faster."""
    rows = parts[0].size(0)
    if dtype is parts[0].dtype:
        return torch.cat(parts, dim=1)
    # Low precision products on a CPU are compiled for each shape anew, and the number of rows differs in every batch.
    padded = -(-rows // _ROW_BLOCK) * _ROW_BLOCK
    out = parts[0].new_zeros(padded, sum(x.size(1) for x in parts), dtype=dtype)
    begin = 0
    for x in parts:
        out[:rows, begin : begin + x.size(1)] = x
        begin += x.size(1)
    return out


class _LinearOfConstant(torch.autograd.Function):
    """``linear(cat([*constant, x]))``, rows in ``empty`` as if zeros, with no gradient for the constant pieces."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, empty: Tensor, dtype: torch.dtype, *constant: Tensor
    ) -> Tensor:
        joined, weight = _joined((*constant, x), dtype).index_fill_(0, empty, 0), weight.to(dtype)
        ctx.save_for_backward(joined, weight, empty)
        ctx.num_constant = joined.size(1) - x.size(1)
        return F.linear(joined, weight, bias.to(dtype))[: x.size(0)].to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        joined, weight, empty = ctx.saved_tensors
        low = _joined((grad,), joined.dtype)
        grad_x = (low @ weight[:, ctx.num_constant :])[: grad.size(0)].to(grad.dtype).index_fill_(0, empty, 0)
        constant = [None] * (len(ctx.needs_input_grad) - 5)
        return grad_x, (low.t() @ joined).to(grad.dtype), grad.sum(0), None, None, *constant


class _GRUGates(torch.autograd.Function):
    """The gates of a GRU cell from its two products, with no gradient for the constant state ``h``."""

    @staticmethod
    def forward(ctx: Any, from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
        d = h.size(1)
        gates = (from_input[:, : 2 * d] + from_state[:, : 2 * d]).sigmoid_()
        reset, keep = gates[:, :d], gates[:, d:]
        state_n = from_state[:, 2 * d :]
        new = torch.addcmul(from_input[:, 2 * d :], reset, state_n).tanh_()
        ctx.save_for_backward(gates, new, state_n, h)
        return torch.lerp(new, h, keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, new, state_n, h = ctx.saved_tensors
        d = h.size(1)
        reset, keep = gates[:, :d], gates[:, d:]
        grad_input = grad.new_empty(grad.size(0), 3 * d)
        grad_gates, grad_new = grad_input[:, : 2 * d], grad_input[:, 2 * d :]
        torch.mul(torch.addcmul(grad, grad, keep, value=-1), 1 - new * new, out=grad_new)
        torch.mul(grad_new, state_n, out=grad_gates[:, :d])
        torch.mul(grad, h - new, out=grad_gates[:, d:])
        grad_gates.mul_(gates * (1 - gates))
        grad_state = torch.cat([grad_gates, grad_new * reset], dim=1)
        return grad_input, grad_state, None


def gru_update(gru: GRUCell, constant: tuple[Tensor, ...], x: Tensor, h: Tensor, empty: Tensor) -> Tensor:
    """Returns ``gru(cat([*constant, x]), h)``: [U, D], with gradients for ``x`` and the parameters alone.

    Args:
        gru: The cell; its input is as wide as ``constant`` and ``x`` together.
        constant: Pieces [U, C_i], carry no gradient.
        x: [U, X], floating.
        h: [U, D], the old state, carries no gradient.
        empty: Int64[K], rows whose input is taken as zeros.
    """
    dtype = autocast_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        from_input = _LinearOfConstant.apply(  # type: ignore[no-untyped-call]
            x, gru.weight_ih, gru.bias_ih, empty, dtype, *constant
        )
        from_state = F.linear(h, gru.weight_hh, gru.bias_hh)
        out: Tensor = _GRUGates.apply(from_input, from_state, h)  # type: ignore[no-untyped-call]
    return out
