import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_events import NUM_NODES, history, streams
from torch_geometric.data import TemporalData

from pyg_mspipe.graph import PairFeatures, TemporalCSR

NODE = st.integers(0, NUM_NODES - 1)


def features_of(data, train=None):
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    return PairFeatures.from_stream(csr, data.src, data.dst, train or range(data.num_events))


def three(e_ids, data, moment, gap):
    """The three features of a history, the slow way."""
    if not e_ids:
        return [0, 1, 0]
    return [math.log1p((moment - int(data.t[e_ids[-1]])) / gap), 0, math.log1p(len(e_ids))]


def by_search(data, u, v, moment, bound, gap):
    ends = list(zip(data.src.tolist(), data.dst.tolist(), strict=True))[:bound]
    histories = [[e for e, pair in enumerate(ends) if pair == wanted] for wanted in ((u, v), (v, u))]
    histories += [[e for e, _ in history(data, node, bound)] for node in (u, v)]
    return [x for each in histories for x in three(each, data, moment, gap)]


@given(streams(min_events=1), st.data())
def test_features_are_those_of_a_search_through_all_events(data, drawn):
    features = features_of(data)
    bounds = st.integers(0, data.num_events)
    asked = torch.tensor(drawn.draw(st.lists(st.tuples(NODE, NODE, NODE, bounds), min_size=1, max_size=8)))
    src, first, second, bound = asked.unbind(1)
    moment = int(data.t[-1]) + 3
    found = features(src, torch.stack([first, second]), torch.full_like(src, moment), bound)
    assert found.shape == (2, len(asked), PairFeatures.width)
    for event, (u, *others, below) in enumerate(asked.tolist()):
        for row, v in enumerate(others):
            expected = by_search(data, u, v, moment, below, features.gap)
            assert found[row, event].tolist() == pytest.approx(expected, rel=1e-6)


@given(streams(min_events=1), st.data())
def test_pairs_may_have_sources_of_their_own_and_one_bound(data, drawn):
    features = features_of(data)
    src, dst = torch.tensor(drawn.draw(st.lists(st.tuples(NODE, NODE), min_size=6, max_size=6))).unbind(1)
    moment, bound = data.t.new_tensor([100, 200, 300]), drawn.draw(st.integers(0, data.num_events))
    whole = features(src.view(2, 3), dst.view(2, 3), moment, bound)
    rows = [features(src[part], dst[part].unsqueeze(0), moment, bound) for part in (slice(3), slice(3, 6))]
    assert torch.equal(whole, torch.cat(rows))


def test_elapsed_times_are_counted_in_mean_gaps_of_training_whatever_the_streams_unit():
    src = dst = torch.tensor([0, 0, 1, 0])
    t = torch.tensor([0, 10, 30, 10**6])
    found = []
    for scale in (1, 10**9):
        data = TemporalData(src=src, dst=dst, t=t * scale + 1_700_000_000_000)
        features = features_of(data, range(3))
        assert features.gap == 15 * scale
        found.append(features(src[:1], dst[:1].unsqueeze(0), data.t[3:], 3))
    torch.testing.assert_close(*found)
    assert found[0][0, 0, 0].item() == pytest.approx(math.log1p((10**6 - 10) / 15))
    assert features_of(TemporalData(src=src, dst=dst, t=torch.zeros_like(t))).gap == 1
