from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_streams import bipartite, columns, cuts, pair_columns, positives_of, tied_streams, true_of

from pyg_mspipe.data import Positives
from pyg_mspipe.tasks.protocols import PastPairs, TrueDestinations


def pairs_by_hand(data, first_seen, events):
    """The pairs that may be drawn for a batch."""
    all_events = list(zip(data.src.tolist(), data.dst.tolist(), data.t.tolist(), strict=True))
    first = {}
    for e_id, (u, v, _) in enumerate(all_events):
        first.setdefault((u, v), e_id)
    begin, end = all_events[events.start][2], all_events[events[-1]][2]
    now = {(u, v) for u, v, t in all_events if begin <= t <= end}
    return {pair for pair, e_id in first.items() if e_id in first_seen and e_id < events.start} - now


@settings(deadline=None, max_examples=200)
@given(st.data(), tied_streams(), st.integers(1, 9), st.booleans(), st.booleans())
def test_pairs_equal_those_found_by_looking_at_every_event(draw, data, num, inductive, filtered):
    end_of_training, events = draw.draw(cuts(data))
    first_seen = range(end_of_training, data.num_events) if inductive else range(end_of_training)
    low, high = int(data.dst.min()), int(data.dst.max())
    met = TrueDestinations.from_stream(data) if filtered else None
    drawer = PastPairs(data, first_seen, num, low=low, high=high, seed=2, met=met)
    positives = positives_of(data, events)
    negatives, pool = drawer(positives), pairs_by_hand(data, first_seen, events)
    assert drawer.num_pairs(positives) == len(pool)
    assert negatives.dst.shape == negatives.src.shape == (num, len(events))
    drawn = pair_columns(negatives)
    own = [(int(data.src[e]), int(data.dst[e]), int(data.t[e])) for e in events]
    for (u, v, t), pairs in zip(own, drawn, strict=True):
        assert len(set(pairs)) == len(pairs)
        assert (u, v) not in pairs
        rest = [pair for pair in pairs if pair not in pool]
        # What fills up is of the event's own source.
        assert all(src == u and low <= dst <= high for src, dst in rest)
        if filtered:
            assert not any(dst in true_of(data, src, t) for src, dst in pairs)
        allowed = set(range(low, high + 1)) - (true_of(data, u, t) if filtered else {v})
        if len(pairs) < num:
            assert {dst for src, dst in pairs if src == u} >= allowed
    if len(pool) >= max(num, len(events)):
        assert all(set(pairs) <= pool for pairs in drawn)
        assert not negatives.padded
    if len(pool) >= num * len(events):
        assert len({pair for pairs in drawn for pair in pairs}) == num * len(events)


@settings(deadline=None)
@given(st.data(), tied_streams(), st.integers(1, 6))
def test_no_pair_of_the_past_is_twice_in_a_set(draw, data, num):
    end_of_training, events = draw.draw(cuts(data))
    drawer = PastPairs(data, range(end_of_training), num, low=0, high=15, seed=0)
    at = drawer._draw(events, torch.Generator().manual_seed(0))
    for one_set in at.tolist():
        there = [place for place in one_set if place >= 0]
        assert len(set(there)) == len(there)
    pool = drawer.num_pairs(positives_of(data, events))
    if pool <= len(events) >= num:
        # All that there are, in each set.
        assert ((at >= 0).sum(dim=1) == pool).all()


@pytest.mark.parametrize("part", [range(400, 500), range(500, 600)])
def test_inductive_pairs_are_first_met_in_the_part_and_historical_ones_in_training(part):
    data = bipartite()
    first_met = {}
    for e_id, pair in enumerate(zip(data.src.tolist(), data.dst.tolist(), strict=True)):
        first_met.setdefault(pair, e_id)
    positives = positives_of(data, range(part.start + 80, part.start + 90))
    for first_seen in (range(400), part):
        drawer = PastPairs(data, first_seen, 2, low=25, high=84, seed=0)
        assert drawer.num_pairs(positives) >= 20
        drawn = {pair for pairs in pair_columns(drawer(positives)) for pair in pairs}
        assert all(first_met[pair] in first_seen and first_met[pair] < positives.events.start for pair in drawn)


def test_a_draw_depends_on_seed_epoch_batch_and_events_alone():
    data = bipartite()
    positives = positives_of(data, range(450, 470), batch=4)

    def drawn(seed, at):
        negatives = PastPairs(data, range(400), 3, low=25, high=84, seed=seed)(at)
        return negatives.src.tolist(), negatives.dst.tolist()

    assert drawn(1, positives) == drawn(1, positives)
    others = [drawn(2, positives), drawn(1, positives_of(data, positives.events, batch=5))]
    assert drawn(1, positives) not in others


def test_every_pair_is_drawn_equally_often():
    data = bipartite()
    drawer = PastPairs(data, range(400), 4, low=25, high=84, seed=0)
    counts, size = {}, 0
    for batch in range(400):
        positives = Positives.of(data, range(500, 510), batch=batch)
        size += 40
        for pairs in pair_columns(drawer(positives)):
            for pair in pairs:
                counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == drawer.num_pairs(positives)
    expected = size / len(counts)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


def test_a_set_is_filled_up_with_random_negatives_of_the_events_own_sources():
    data = bipartite()
    events = range(400, 420)
    # Of the events before, none met for the first time in this part: all negatives are random ones.
    negatives = PastPairs(data, range(400, 500), 30, low=25, high=84, seed=0)(positives_of(data, events))
    assert torch.equal(negatives.src, data.src[400:420].expand(30, 20))
    assert all(len(set(each)) == 30 for each in columns(negatives))
    assert all(a != b for a, b in pairwise(columns(negatives)))
