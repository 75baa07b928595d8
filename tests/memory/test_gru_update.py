import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import GRUCell

from pyg_mspipe.memory.gru_update import gru_update

NO_ROWS = torch.zeros(0, dtype=torch.long)


def inputs_of(rows, constant, width, memory, dtype=torch.float32):
    torch.manual_seed(rows + constant)
    gru = GRUCell(memory + constant + width, memory).to(dtype)
    sizes = (constant, width, memory, memory)
    return gru, *(torch.randn(rows, size, dtype=dtype) for size in sizes)


def results_of(step, gru, x, grad):
    gru.zero_grad()
    x = x.clone().requires_grad_()
    out = step(gru, x)
    out.backward(grad)
    return [out.detach(), x.grad, *(parameter.grad.clone() for parameter in gru.parameters())]


def ours(constant, h):
    return lambda gru, x: gru_update(gru, h, (constant,), x, NO_ROWS)


def torchs(constant, h):
    return lambda gru, x: gru(torch.cat([h, constant, x], dim=1), h)


@settings(deadline=None)
@given(rows=st.integers(0, 9), constant=st.integers(0, 4), width=st.integers(1, 4), memory=st.integers(1, 4))
def test_output_and_gradients_are_those_of_torchs_cell(rows, constant, width, memory):
    gru, fixed, x, h, grad = inputs_of(rows, constant, width, memory, torch.float64)
    for mine, theirs in zip(
        results_of(ours(fixed, h), gru, x, grad), results_of(torchs(fixed, h), gru, x, grad), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


def test_the_gradients_are_those_of_finite_differences():
    gru, fixed, x, h, _ = inputs_of(4, 3, 2, 3, torch.float64)

    def step(x, *weights):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell = GRUCell(8, 3).double()
        for name, weight in zip(names, weights, strict=True):
            delattr(cell, name)
            setattr(cell, name, weight)
        return gru_update(cell, h, (fixed,), x, torch.tensor([2]))

    assert torch.autograd.gradcheck(
        step, (x.requires_grad_(), *(p.detach().requires_grad_() for p in gru.parameters()))
    )


def test_the_constant_part_of_the_input_gets_no_gradient():
    gru, fixed, x, h, grad = inputs_of(5, 3, 2, 4)
    gru_update(gru, h, (fixed.requires_grad_(),), x.requires_grad_(), NO_ROWS).backward(grad)
    assert fixed.grad is None
    assert x.grad is not None


# Rows are padded to a multiple of 64 in low precision.
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
def test_bfloat16_stays_close_to_float32(rows):
    gru, fixed, x, h, grad = inputs_of(rows, 30, 20, 24)
    exact = results_of(torchs(fixed, h), gru, x, grad / max(rows, 1))
    with torch.autocast("cpu", torch.bfloat16):
        low = results_of(ours(fixed, h), gru, x, grad / max(rows, 1))
    assert [x.dtype for x in low] == [torch.float32] * 6
    assert [x.shape for x in low] == [x.shape for x in exact]
    for mine, theirs in zip(low, exact, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-2, rtol=0)


def test_rows_without_a_message_take_an_input_of_zeros_and_pass_no_gradient_on():
    gru, fixed, x, h, grad = inputs_of(5, 3, 2, 4, torch.float64)
    empty = torch.tensor([1, 4])
    keep = torch.ones(5, 1, dtype=torch.float64).index_fill(0, empty, 0)
    mine = results_of(lambda gru, x: gru_update(gru, h, (fixed,), x, empty), gru, x, grad)
    theirs = results_of(lambda gru, x: gru(torch.cat([h, fixed, x], dim=1) * keep, h), gru, x, grad)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
