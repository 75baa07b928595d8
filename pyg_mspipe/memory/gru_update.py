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

from pyg_mspipe.memory.precision import autocast_dtype, full_precision

# Rows of a low precision product are rounded up to a multiple of this.
_ROW_BLOCK = 64


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


def _clear(rows: Tensor, empty: Tensor) -> Tensor:
    """Sets some of the rows, [U, ...], to zero, in place, and returns all."""
    if empty.dtype is torch.bool:
        return rows.masked_fill_(empty.unsqueeze(1), 0)
    return rows.index_fill_(0, empty, 0)


class _GRUUpdate(torch.autograd.Function):
    """``gru([h, *constant, x], h)``, with no gradient for ``h`` and ``constant``.

    A GRU multiplies its state by ``W_hh``, and here its input too begins with the state: for the reset and update gates
    the two products are taken as one, by the sum of the weights. Rows in ``empty`` have zeros for input, so what the
    sum adds to theirs is taken off again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        h: Tensor,
        empty: Tensor,
        dtype: torch.dtype,
        *constant: Tensor,
    ) -> Tensor:
        size, d = h.shape
        joined = _joined((h, *constant, x), dtype)
        _clear(joined[:size, d:], empty)
        weight, bias = weight_ih.clone(), bias_ih.clone()
        weight[: 2 * d, :d] += weight_hh[: 2 * d]
        bias[: 2 * d] += bias_hh[: 2 * d]
        product = F.linear(joined, weight.to(dtype), bias.to(dtype))[:size].to(x.dtype)
        if empty.dtype is torch.bool:
            product.addmm_(torch.where(empty.unsqueeze(1), h, 0), weight_ih[:, :d].t(), alpha=-1)
        elif empty.numel():
            product.index_add_(0, empty, h.index_select(0, empty) @ weight_ih[:, :d].t(), alpha=-1)

        gates = product[:, : 2 * d].sigmoid_()
        reset, keep = gates[:, :d], gates[:, d:]
        state_n = F.linear(h, weight_hh[2 * d :], bias_hh[2 * d :])
        new = torch.addcmul(product[:, 2 * d :], reset, state_n).tanh_()
        weight_x = weight_ih[:, joined.size(1) - x.size(1) :].to(dtype)
        ctx.save_for_backward(joined, weight_x, gates, new, state_n, h, empty)
        return torch.lerp(new, h, keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        joined, weight_x, gates, new, state_n, h, empty = ctx.saved_tensors
        size, d = h.shape
        reset, keep = gates[:, :d], gates[:, d:]
        grad_product = grad.new_empty(size, 3 * d)
        grad_gates, grad_new = grad_product[:, : 2 * d], grad_product[:, 2 * d :]
        torch.mul(torch.addcmul(grad, grad, keep, value=-1), 1 - new * new, out=grad_new)
        torch.mul(grad_new, state_n, out=grad_gates[:, :d])
        torch.mul(grad, h - new, out=grad_gates[:, d:])
        grad_gates.mul_(gates * (1 - gates))
        grad_state_n = grad_new * reset

        low = _joined((grad_product,), joined.dtype)
        grad_x = _clear((low @ weight_x)[:size].to(grad.dtype), empty)
        grad_ih = (low.t() @ joined).to(grad.dtype)
        grad_hh = torch.cat([grad_ih[: 2 * d, :d], grad_state_n.t() @ h])
        if empty.dtype is torch.bool:
            grad_ih[:, :d].addmm_(grad_product.t(), torch.where(empty.unsqueeze(1), h, 0), alpha=-1)
        elif empty.numel():
            grad_ih[:, :d] -= grad_product.index_select(0, empty).t() @ h.index_select(0, empty)
        bias_ih = grad_product.sum(0)
        bias_hh = torch.cat([bias_ih[: 2 * d], grad_state_n.sum(0)])
        return grad_x, grad_ih, grad_hh, bias_ih, bias_hh, *[None] * (len(ctx.needs_input_grad) - 5)


def gru_update(gru: GRUCell, h: Tensor, constant: tuple[Tensor, ...], x: Tensor, empty: Tensor) -> Tensor:
    """Returns ``gru(cat([h, *constant, x]), h)``: [U, D], with gradients for ``x`` and the parameters alone.

    Args:
        gru: The cell; its input is as wide as ``h``, ``constant`` and ``x`` together.
        h: [U, D], the old state, carries no gradient.
        constant: Pieces [U, C_i], carry no gradient.
        x: [U, X], floating.
        empty: Int64[K], rows whose input is taken as zeros; or Bool[U], true for these.
    """
    dtype = autocast_dtype(x)
    with full_precision(x.device.type):
        out: Tensor = _GRUUpdate.apply(  # type: ignore[no-untyped-call]
            x, gru.weight_ih, gru.weight_hh, gru.bias_ih, gru.bias_hh, h, empty, dtype, *constant
        )
    return out
