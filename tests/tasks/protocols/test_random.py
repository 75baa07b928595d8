import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_streams import bipartite, columns, positives_of, tied_streams, true_of

from pyg_mspipe.tasks.protocols import RandomNegatives, TrueDestinations


@settings(deadline=None)
@given(st.data(), tied_streams(), st.integers(1, 12), st.booleans())
def test_negatives_are_distinct_in_the_range_and_never_true(draw, data, num, filtered):
    low, high = int(data.dst.min()), int(data.dst.max())
    start = draw.draw(st.integers(0, data.num_events - 1))
    events = range(start, draw.draw(st.integers(start + 1, data.num_events)))
    met = TrueDestinations.from_stream(data) if filtered else None
    negatives = RandomNegatives(low, high, num, seed=1, met=met)(positives_of(data, events))
    assert negatives.dst.shape == (min(num, high - low + 1), len(events))
    for e_id, drawn in zip(events, columns(negatives), strict=True):
        u, v, t = (int(data[name][e_id]) for name in ("src", "dst", "t"))
        true = true_of(data, u, t) if filtered else {v}
        allowed = set(range(low, high + 1)) - true
        assert len(drawn) == len(set(drawn)) == min(num, len(allowed))
        assert set(drawn) <= allowed


def test_a_draw_depends_on_seed_epoch_batch_and_events_alone():
    data = bipartite()
    draw = RandomNegatives(25, 84, 9, seed=(3, 1))
    here = positives_of(data, range(100, 150), batch=2, epoch=1)
    first = draw(here).dst
    torch.manual_seed(5)
    assert torch.equal(draw(here).dst, first)
    others = [
        RandomNegatives(25, 84, 9, seed=(3, 2))(here),
        draw(positives_of(data, range(100, 150), batch=3, epoch=1)),
        draw(positives_of(data, range(100, 150), batch=2, epoch=0)),
    ]
    assert not any(torch.equal(each.dst, first) for each in others)


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    RandomNegatives(25, 84, 9, seed=0)(positives_of(bipartite(), range(100)))
    assert torch.equal(torch.rand(1), expected)


def test_the_first_negative_of_an_event_is_as_likely_any_destination_as_any_other():
    data = bipartite(20_000)
    first = RandomNegatives(25, 84, 30, seed=0)(positives_of(data, range(20_000))).dst[0]
    counts = torch.bincount(first, minlength=85)[25:]
    own = torch.bincount(data.dst, minlength=85)[25:]
    expected = (20_000 - own) / 59
    assert bool(((counts - expected).abs() < 5 * expected.sqrt()).all())


@pytest.mark.parametrize(
    ("low", "high", "num", "message"), [(3, 2, 1, "no ids to draw between low 3 and high 2"), (0, 2, 0, "num=0")]
)
def test_impossible_draws_are_refused(low, high, num, message):
    with pytest.raises(ValueError, match=message):
        RandomNegatives(low, high, num, seed=0)
