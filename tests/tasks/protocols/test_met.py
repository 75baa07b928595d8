import torch
from hypothesis import given, settings
from protocol_streams import stream_of, tied_streams, true_of

from pyg_mspipe.tasks.protocols import TrueDestinations


@settings(deadline=None, max_examples=30)
@given(tied_streams())
def test_true_destinations_equal_those_found_by_looking_at_every_event(data):
    met = TrueDestinations.from_stream(data)
    nodes, times = range(-1, 18), range(-1, int(data.t.max()) + 2)
    src, t, dst = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(times), torch.tensor(nodes)).t()
    true = {(u, moment): true_of(data, u, moment) for u in nodes for moment in times}
    expected = [v in true[u, moment] for u, moment, v in zip(src.tolist(), t.tolist(), dst.tolist(), strict=True)]
    assert met.contains(src, t, dst).tolist() == expected
    src, t = torch.cartesian_prod(torch.tensor(nodes), torch.tensor(times)).t()
    row, dst = met.of(src, t)
    for n, (u, moment) in enumerate(zip(src.tolist(), t.tolist(), strict=True)):
        assert dst[row == n].tolist() == sorted(true[u, moment])


@settings(deadline=None)
@given(tied_streams())
def test_each_event_finds_its_triple_and_no_other(data):
    met = TrueDestinations.from_stream(data)
    found = met.find(data.src, data.t, data.dst).tolist()
    triples = list(zip(data.src.tolist(), data.t.tolist(), data.dst.tolist(), strict=True))
    assert len(set(found)) == len(set(triples)) == met.triple.numel()
    assert len(set(zip(found, triples, strict=True))) == len(set(triples))


def test_ids_and_times_may_be_as_large_as_int64_holds():
    big = 2**62
    data = stream_of([big, 0, big], [big + 5, big + 5, 3], [-big, big, big])
    met = TrueDestinations.from_stream(data)
    assert met.contains(data.src, data.t, data.dst).all()
    assert not met.contains(data.src, data.t, torch.tensor([3, 3, big + 5])).any()
    assert met.of(torch.tensor([big]), torch.tensor([big]))[1].tolist() == [3]


def test_nobody_meets_anybody_where_there_are_no_events():
    met = TrueDestinations.from_events(*torch.zeros(3, 0, dtype=torch.long))
    assert met.contains(torch.tensor([0]), torch.tensor([0]), torch.tensor([0])).tolist() == [False]
    assert met.of(torch.tensor([0, 1]), torch.tensor([0, 1]))[0].numel() == 0
