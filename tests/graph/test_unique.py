import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_mspipe.graph.unique import unique_ids


@given(st.integers(1, 12).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1)))))
def test_distinct_ids_and_their_positions_are_those_of_torch(drawn):
    size, ids = drawn[0], torch.tensor(drawn[1], dtype=torch.long)
    distinct, position = unique_ids(ids, size)
    expected = ids.unique(return_inverse=True)
    assert torch.equal(distinct, expected[0])
    assert torch.equal(position, expected[1])
