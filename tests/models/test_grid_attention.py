import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.models.grid_attention import grid_attention


def inputs_of(rows, heads, k, widths, seed):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, heads, sum(widths), generator=generator).double()
    offset = torch.randn(rows, heads, 1, generator=generator).double()
    mask = torch.rand(rows, k, generator=generator) < 0.6
    return query, offset, mask, tuple(torch.randn(rows, k, width, generator=generator).double() for width in widths)


@settings(deadline=None)
@given(
    rows=st.integers(0, 4),
    heads=st.integers(1, 3),
    k=st.integers(1, 4),
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_the_sums_are_those_of_a_loop_with_a_softmax_over_the_filled_places(rows, heads, k, widths, seed):
    query, offset, mask, inputs = inputs_of(rows, heads, k, widths, seed)
    summed, total = grid_attention(query, offset, mask, inputs)
    joined = torch.cat(inputs, dim=-1)
    for row in range(rows):
        for head in range(heads):
            places = joined[row][mask[row]]
            weights = (places @ query[row, head] + offset[row, head]).softmax(0)
            torch.testing.assert_close(summed[row, head], weights @ places)
            torch.testing.assert_close(total[row, head, 0], weights.sum())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("constant", [(), (0,), (1,)])
def test_the_gradients_are_those_of_finite_differences(constant, dropout):
    query, offset, mask, inputs = inputs_of(5, 2, 3, (2, 3), seed=3)
    mask[0] = False
    for piece, x in enumerate(inputs):
        x.requires_grad_(piece not in constant)

    def attend(query, offset, *inputs):
        torch.manual_seed(0)
        return grid_attention(query, offset, mask, inputs, dropout=dropout)

    assert torch.autograd.gradcheck(attend, (query.requires_grad_(), offset.requires_grad_(), *inputs))


def test_large_scores_do_not_overflow():
    query, offset, mask, inputs = inputs_of(3, 2, 4, (2,), seed=0)
    summed, total = grid_attention(query * 1e6, offset, mask, inputs)
    assert bool(torch.isfinite(summed).all())
    torch.testing.assert_close(total[..., 0], mask.any(1, keepdim=True).expand(-1, 2).double())
