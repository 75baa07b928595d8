"""The package's TGN is the oracle's, on random streams."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.comparison import NUM_NODES, Case, compare, random_stream, randomized, streams
from oracles.tgn import TGNOracle, tgn_shapes

from pyg_mspipe.models import TGN

SIZES = {"memory_dim": 4, "time_dim": 3, "embedding_dim": 6}


def pair_of(case, num_neighbors, seed=0):
    model = TGN(
        NUM_NODES, case.stream.msg_dim, **SIZES, num_layers=len(num_neighbors), heads=2, dropout=0.0, time_init="random"
    )
    params = randomized(model, seed)
    return model, params, TGNOracle(params, case.stream, num_neighbors, heads=2, begin=case.begin)


@settings(deadline=None, max_examples=12)
@given(
    data=streams(),
    batch_size=st.integers(1, 7),
    num_neighbors=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    num_negatives=st.integers(1, 2),
    begin=st.sampled_from([0, 0, 3]),
    training_share=st.sampled_from([0.5, 0.7, 1.0]),
    seed=st.integers(0, 100),
)
def test_outputs_gradients_and_state_are_the_oracles(
    data, batch_size, num_neighbors, num_negatives, begin, training_share, seed
):
    case = Case(
        data,
        NUM_NODES,
        batch_size,
        num_neighbors,
        num_negatives=num_negatives,
        begin=begin,
        training_share=training_share,
        seed=seed,
    )
    compare(*pair_of(case, num_neighbors, seed), case)


@pytest.mark.parametrize("num_neighbors", [[2], [2, 3]])
@pytest.mark.parametrize("msg_dim", [0, 3])
def test_the_oracles_parameters_are_the_packages(num_neighbors, msg_dim):
    model = TGN(NUM_NODES, msg_dim, **SIZES, num_layers=len(num_neighbors))
    shapes = tgn_shapes(msg_dim, **SIZES, num_layers=len(num_neighbors))
    assert {name: tuple(x.shape) for name, x in model.named_parameters()} == shapes


class OneEventAhead(TGNOracle):
    """Its memory takes in the first event of a batch before the batch is scored."""

    def seen(self, node, events):
        return self.updated(node, self.stream.last_event(node, self.begin, events.start + 1), events.start)


class OldestNeighbours(TGNOracle):
    """Its neighbours are the oldest, not the most recent."""

    def embed(self, query, events):
        recent = self.stream.recent
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.stream, "recent", lambda node, bound, k: recent(node, bound, 1000)[::-1][:k])
            return super().embed(query, events)


class OtherRowTwice(TGNOracle):
    """Its messages hold the row of the other end in place of the own one too."""

    def message(self, node, event, bound):
        other = event.other_end(node)
        return torch.cat([self.rows[other], super().message(node, event, bound)[self.rows[node].numel() :]])


@pytest.mark.parametrize("wrong", [OneEventAhead, OldestNeighbours, OtherRowTwice])
def test_the_comparison_notices_a_model_that_is_not_the_oracle(wrong):
    case = Case(random_stream(), NUM_NODES, 3, [2])
    model, params, _ = pair_of(case, [2])
    with pytest.raises(AssertionError):
        compare(model, params, wrong(params, case.stream, [2]), case)
