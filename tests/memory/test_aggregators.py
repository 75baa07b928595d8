import pytest
import torch
import torch_geometric.typing
from hypothesis import given, settings
from hypothesis import strategies as st
from random_training import LoopLast

from pyg_mspipe.memory import LastAggregator

INSTALLED = pytest.mark.skipif(not torch_geometric.typing.WITH_TORCH_SCATTER, reason="torch_scatter is not installed")


@pytest.mark.parametrize("scatter", [pytest.param(True, marks=INSTALLED), False])
@settings(deadline=None)
@given(messages=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12))
def test_the_latest_message_is_kept_and_of_a_tie_the_one_listed_last(scatter, messages):
    index = torch.tensor([node for node, _ in messages], dtype=torch.long)
    t = torch.tensor([t for _, t in messages], dtype=torch.long)
    msg = torch.randn(len(messages), 3, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", scatter)
        out = LastAggregator()(msg, index, t, 5)
    expected = LoopLast("last")(msg, index, t, 5)
    assert torch.equal(out, expected)
    if messages:
        weight = torch.randn(5, 3)
        gradients = [torch.autograd.grad((each * weight).sum(), msg)[0] for each in (out, expected)]
        assert torch.equal(*gradients)
