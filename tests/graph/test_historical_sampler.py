from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_events import NUM_NODES, streams
from torch_geometric.data import TemporalData

from pyg_mspipe.data import Positives
from pyg_mspipe.graph import HistoricalSampler
from pyg_mspipe.graph import historical_sampler as module


def sampler_of(data, num=1, seed=0):
    return HistoricalSampler.from_events(data.src, data.dst, NUM_NODES, num=num, seed=seed)


def met_before(data, e_id, bound):
    """The destinations of the earlier events of an event's source, but for the event's own, oldest first."""
    src, dst = data.src.tolist(), data.dst.tolist()
    return [dst[e] for e in range(bound) if src[e] == src[e_id] and dst[e] != dst[e_id]]


@given(streams(min_events=2, max_events=40), st.floats(0, 1, exclude_max=True), st.data())
def test_each_earlier_event_of_another_destination_is_drawn_by_its_own_share_of_numbers(data, number, drawn):
    begin = drawn.draw(st.integers(0, data.num_events - 1))
    events = range(begin, data.num_events)

    def drawn_alike(seed, epoch, first, second, count):
        return torch.tensor([0.0, number, 0.999], dtype=torch.float64).expand(first.numel(), 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "uniform_hash", drawn_alike)
        found = sampler_of(data)(Positives.of(data, events)).squeeze(0).tolist()
    for e_id, dst in zip(events, found, strict=True):
        met = met_before(data, e_id, begin)
        assert dst == (met[int(number * len(met))] if met else int(data.dst.max()))


def test_half_of_the_negatives_are_historical_and_each_event_before_the_batch_as_likely():
    # Node 0 has met 1 twice and 2 once before the batch, and 5 in it; its own destination is 3.
    data = TemporalData(
        src=torch.tensor([0, 0, 0, 0, 1, 0, 0]), dst=torch.tensor([1, 2, 1, 3, 4, 5, 3]), t=torch.arange(7)
    )
    found = sampler_of(data, num=60_000)(Positives.of(data, range(5, 7)))[:, 1]
    share = {node: count / 60_000 for node, count in Counter(found.tolist()).items()}
    # Destinations 1 to 5 have a tenth each of the uniform half.
    expected = {1: 0.1 + 2 / 6, 2: 0.1 + 1 / 6, 3: 0.1, 4: 0.1, 5: 0.1}
    assert share == pytest.approx(expected, abs=0.01)


def test_a_source_without_other_events_gets_uniform_negatives():
    data = TemporalData(src=torch.tensor([0, 1, 1]), dst=torch.tensor([2, 3, 3]), t=torch.arange(3))
    found = sampler_of(data, num=40_000)(Positives.of(data, range(2, 3)))
    assert Counter(found.view(-1).tolist())[2] / 40_000 == pytest.approx(0.5, abs=0.02)


@given(streams(min_events=3))
def test_negatives_are_a_function_of_seed_epoch_and_batch(data):
    events = range(1, data.num_events)
    whole = sampler_of(data, num=40)
    first = whole(Positives.of(data, events, epoch=1))
    assert torch.equal(first, whole(Positives.of(data, events, epoch=1, batch=5)))
    assert torch.equal(first, sampler_of(data, num=40)(Positives.of(data, events, epoch=1)))
    assert int(first.min()) >= int(data.dst.min())
    assert int(first.max()) <= int(data.dst.max())
    if data.dst.unique().numel() > 2:
        assert not torch.equal(first, whole(Positives.of(data, events, epoch=2)))
        assert not torch.equal(first, sampler_of(data, num=40, seed=(0, 1))(Positives.of(data, events, epoch=1)))
