"""The package's TGAT is the oracle's, on random streams."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.comparison import NUM_NODES, Case, compare, random_stream, randomized, streams
from oracles.tgat import TGATOracle, tgat_shapes

from pyg_mspipe.models import TGAT

SIZES = {"time_dim": 3, "embedding_dim": 4}
NODE_DIM = 3


def pair_of(case, num_neighbors, seed=0, **options):
    """The model, its parameters and its oracle, which counts times back from where the model does."""
    node_dim = 0 if case.x is None else NODE_DIM
    model = TGAT(
        NUM_NODES, case.stream.msg_dim, node_dim=node_dim, **SIZES, num_layers=len(num_neighbors), heads=2, dropout=0.0
    )
    params = randomized(model, seed)
    x = None if case.x is None else case.x.double()
    options = {"cut_off": case.batches.cut_off, "since": "unseen"} | options
    return model, params, TGATOracle(params, case.stream, num_neighbors, x=x, **options)


def features(seed=0):
    return torch.randn(NUM_NODES, NODE_DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@settings(deadline=None, max_examples=10)
@given(
    data=streams(max_events=25),
    batch_size=st.integers(1, 7),
    num_neighbors=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    with_features=st.booleans(),
    begin=st.sampled_from([0, 0, 3]),
    seed=st.integers(0, 100),
)
def test_outputs_and_gradients_are_those_of_a_loop_over_nodes_and_edges(
    cut_off, data, batch_size, num_neighbors, with_features, begin, seed
):
    x = features(seed) if with_features else None
    case = Case(data, NUM_NODES, batch_size, num_neighbors, begin=begin, seed=seed, cut_off=cut_off, x=x)
    compare(*pair_of(case, num_neighbors, seed), case)


def test_with_the_event_cut_off_times_count_back_from_the_query():
    case = Case(random_stream(), NUM_NODES, 5, [2, 2], cut_off="event", x=features())
    compare(*pair_of(case, [2, 2], since="query"), case)


@pytest.mark.parametrize(
    ("cut_off", "wrong"),
    [
        ("batch", {"since": "query"}),
        ("batch", {"cut_off": "event"}),
        ("event", {"cut_off": "batch"}),
        ("event", {"num_neighbors": [2, 1]}),
    ],
)
def test_the_comparison_notices_a_model_that_is_not_the_oracle(cut_off, wrong):
    case = Case(random_stream(), NUM_NODES, 5, [2, 2], cut_off=cut_off, x=features())
    model, params, oracle = pair_of(case, [2, 2])
    for name, value in wrong.items():
        assert getattr(oracle, name) != value
        setattr(oracle, name, value)
    with pytest.raises(AssertionError, match="outputs"):
        compare(model, params, oracle, case)


@pytest.mark.parametrize("node_dim", [0, NODE_DIM])
@pytest.mark.parametrize("msg_dim", [0, 3])
def test_the_oracles_parameters_are_the_packages(node_dim, msg_dim):
    model = TGAT(NUM_NODES, msg_dim, node_dim=node_dim, **SIZES, num_layers=2)
    shapes = tgat_shapes(msg_dim, node_dim, **SIZES, num_layers=2)
    assert {name: tuple(x.shape) for name, x in model.named_parameters()} == shapes
