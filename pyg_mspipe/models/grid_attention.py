"""Softmax attention over a padded grid, with a backward laid out for batches of small products."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_mspipe.memory.precision import full_precision


class _GridAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, offset: Tensor, mask: Tensor, kept: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        score, begin = offset, 0
        for x in inputs:
            part = query[..., begin : begin + x.size(-1)]
            score = torch.baddbmm(score, part, x.transpose(1, 2))
            begin += x.size(-1)
        mask = mask.unsqueeze(1)
        alpha = score.masked_fill_(~mask, torch.finfo(score.dtype).min).softmax(dim=-1).mul_(mask)
        used = alpha if kept is None else alpha * kept
        ctx.save_for_backward(query, alpha, used, *inputs)
        ctx.kept = kept
        return torch.cat([torch.bmm(used, x) for x in inputs], dim=-1), used.sum(-1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        query, alpha, used, *inputs = ctx.saved_tensors
        widths = [x.size(-1) for x in inputs]
        grad_used = grad_total
        for x, part in zip(inputs, grad_sum.split(widths, dim=-1), strict=True):
            grad_used = torch.baddbmm(grad_used, part, x.transpose(1, 2))
        grad_alpha = grad_used if ctx.kept is None else grad_used * ctx.kept
        grad_score = alpha * (grad_alpha - (alpha * grad_alpha).sum(-1, keepdim=True))
        grad_query = torch.cat([torch.bmm(grad_score, x) for x in inputs], dim=-1)

        # An input is met twice, in the scores and in the sums: one product serves both.
        weights = torch.cat([grad_score, used], dim=1).transpose(1, 2)
        grad_inputs: list[Tensor | None] = []
        begin = 0
        for x, needed in zip(inputs, ctx.needs_input_grad[4:], strict=True):
            part = slice(begin, begin + x.size(-1))
            begin = part.stop
            grad_inputs.append(
                torch.bmm(weights, torch.cat([query[..., part], grad_sum[..., part]], dim=1)) if needed else None
            )
        return grad_query, grad_score.sum(-1, keepdim=True), None, None, *grad_inputs


def _attended(
    query: Tensor, offset: Tensor, mask: Tensor, kept: Tensor | None, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Returns the same as :func:`grid_attention`, with the backward that autograd makes."""
    widths = [x.size(-1) for x in inputs]
    parts = query.split(widths, dim=-1)
    score = offset + sum(torch.bmm(part, x.transpose(1, 2)) for part, x in zip(parts, inputs, strict=True))
    mask = mask.unsqueeze(1)
    alpha = score.masked_fill(~mask, torch.finfo(score.dtype).min).softmax(dim=-1) * mask
    used = alpha if kept is None else alpha * kept
    return torch.cat([torch.bmm(used, x) for x in inputs], dim=-1), used.sum(-1, keepdim=True)


def grid_attention(
    query: Tensor, offset: Tensor, mask: Tensor, inputs: tuple[Tensor, ...], *, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Returns the attention-weighted sum of each row's inputs, [R, H, F], and the sum of its weights, [R, H, 1].

    The inputs of a row's ``k`` places are given in pieces whose widths add up to ``F``; a piece that needs no gradient
    is met by no product of the backward but that for ``query``. A row without any place has zeros for both.

    Args:
        query: [R, H, F].
        offset: [R, H, 1], added to a row's scores.
        mask: Bool[R, k], which places are filled.
        inputs: Pieces [R, k, F_i], finite everywhere.
        dropout: Dropout of the weights.
    """
    dtype = inputs[0].dtype
    kept = None
    if dropout > 0:
        kept = F.dropout(mask.new_ones(mask.size(0), query.size(1), mask.size(1), dtype=dtype), dropout)
    if torch.compiler.is_compiling():  # which makes a backward of its own
        return _attended(query.to(dtype), offset.to(dtype), mask, kept, inputs)
    # Products this small are bound by reading their inputs; rounding those to half precision first costs more.
    with full_precision(query.device.type):
        summed, total = _GridAttention.apply(  # type: ignore[no-untyped-call]
            query.to(dtype), offset.to(dtype), mask, kept, *inputs
        )
    return summed, total
