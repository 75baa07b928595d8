import pytest
import torch

from pyg_mspipe.graph.row_sums import gather_rows, row_sums


@pytest.mark.parametrize(("size", "count"), [(5, 40), (40, 5), (1, 7), (6, 0)])
def test_rows_and_gradients_are_those_of_index_select(size, count):
    torch.manual_seed(0)
    x, index = torch.randn(size, 3, requires_grad=True), torch.randint(size, (count,))
    grad = torch.randn(count, 3)
    plain, out = x.index_select(0, index), gather_rows(x, index, row_sums(index, size))
    assert torch.equal(out, plain)
    assert torch.equal(*(torch.autograd.grad(each, x, grad)[0] for each in (out, plain)))


def test_a_grid_is_gathered_row_by_row():
    sums = row_sums(torch.tensor([[2, 0], [2, 1]]), 4)
    assert sums.order.tolist() == [1, 3, 0, 2]
    assert sums.ptr.tolist() == [0, 1, 2, 4, 4]
