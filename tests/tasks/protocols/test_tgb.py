"""TGB's rule, held against py-tgb's own generator and against plain loops."""

import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_streams import bipartite, columns, cuts, positives_of, stream_of, tied_streams, true_of

from pyg_mspipe.data import StreamError
from pyg_mspipe.tasks.protocols import Candidates, candidates_of_keys, saved_tgb_candidates, tgb_candidates


def lists_of(candidates):
    ptr, dst = candidates.ptr.tolist(), candidates.dst.tolist()
    return [dst[begin:end] for begin, end in pairwise(ptr)]


def generated(data, train, events, num, folder, seed=7):
    """What py-tgb's generator writes, by source, destination and time."""
    generator = pytest.importorskip("tgb.linkproppred.negative_generator").NegativeEdgeGenerator(
        "tgbl-wiki",
        int(data.dst.min()),
        int(data.dst.max()),
        num_neg_e=num,
        strategy="hist_rnd",
        rnd_seed=seed,
        historical_data=data[train.start : train.stop],
    )
    generator.generate_negative_samples(data[events.start : events.stop], "test", str(folder))
    return pickle.loads((folder / "tgbl-wiki_test_ns.pkl").read_bytes())


def keys_of(data, events):
    part = slice(events.start, events.stop)
    return list(zip(*(data[name][part].tolist() for name in ("src", "dst", "t")), strict=True))


@settings(deadline=None, max_examples=200)
@given(st.data(), tied_streams(), st.integers(1, 16), st.integers(0, 3))
def test_lists_follow_the_rule(draw, data, num, seed):
    end_of_training, events = draw.draw(cuts(data))
    candidates = tgb_candidates(data, range(end_of_training), events, num, seed=seed)
    assert candidates.events == events
    everything = set(range(int(data.dst.min()), int(data.dst.max()) + 1))
    part = data[events.start : events.stop]
    same = {}
    for key, drawn in zip(keys_of(data, events), lists_of(candidates), strict=True):
        u, _, t = key
        seen = {int(v) for v in data.dst[:end_of_training][data.src[:end_of_training] == u]}
        true = true_of(part, u, t)
        num_historical = min(num // 2, len(seen - true))
        historical, random = drawn[:num_historical], drawn[num_historical:]
        assert len(drawn) == len(set(drawn))
        assert set(historical) <= seen - true
        assert set(random) <= everything - seen - true
        assert len(random) == min(num - num_historical, len(everything - seen - true))
        assert same.setdefault(key, drawn) == drawn


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("num", [1, 8, 25, 200])
def test_lists_are_as_long_and_have_as_many_of_each_kind_as_those_of_py_tgbs_generator(num, tmp_path):
    data, train, events = bipartite(), range(400), range(500, 600)
    theirs = generated(data, train, events, num, tmp_path)
    ours = lists_of(tgb_candidates(data, train, events, num, seed=7))
    assert len(ours) == len(events)
    fully_drawn = 0
    for (u, v, t), own in zip(keys_of(data, events), ours, strict=True):
        other = theirs[u, v, t].astype(int).tolist()
        seen = set(data.dst[:400][data.src[:400] == u].tolist())
        assert len(own) == len(other)
        kinds = [[x in seen for x in each] for each in (own, other)]
        assert kinds[0] == kinds[1]
        historical = [{x for x in each if x in seen} for each in (own, other)]
        if len(historical[0]) < num // 2:
            # All there are, once those that are true are left out.
            assert historical[0] == historical[1]
            fully_drawn += len(own) < num
            assert len(own) == num or set(own) == set(other)
    assert fully_drawn > 50 or num < 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("num", [9, 200])
def test_lists_that_py_tgbs_generator_wrote_come_through_as_they_are(num, tmp_path):
    data, train, events = bipartite(), range(400), range(500, 600)
    theirs = generated(data, train, events, num, tmp_path)
    candidates = candidates_of_keys(theirs, data, events)
    sampler = pytest.importorskip("tgb.linkproppred.negative_sampler").NegativeEdgeSampler("tgbl-wiki")
    sampler.load_eval_set(str(tmp_path / "tgbl-wiki_test_ns.pkl"), "test")
    for start in range(500, 600, 30):
        positives = positives_of(data, range(start, min(start + 30, 600)))
        expected = sampler.query_batch(positives.src, positives.dst, positives.t, split_mode="test")
        assert columns(candidates(positives)) == expected


def test_an_event_without_a_list_of_tgbs_is_named():
    data = stream_of([0, 0, 1], [2, 3, 2], [5, 6, 7])
    with pytest.raises(KeyError, match=r"event 2 \(from 1 to 2 at time 7\)"):
        candidates_of_keys({(0, 3, 6): torch.tensor([2]).numpy()}, data, range(1, 3))


def test_a_historical_destination_is_as_likely_as_any_other():
    # Node 0 has met 1 to 8, and each of the events afterwards is ranked among four of these.
    num = 3000
    data = stream_of([0] * (num + 8), [*range(1, 9), *([9] * num)], list(range(num + 8)))
    candidates = tgb_candidates(data, range(8), range(8, num + 8), 8, seed=0)
    counts = torch.bincount(candidates.dst.long())
    assert counts.numel() == 9
    assert bool(((counts[1:] - num / 2).abs() < 5 * (num / 4) ** 0.5).all())


def test_lists_depend_on_the_seed_alone(monkeypatch):
    data = bipartite()

    def drawn(seed):
        torch.rand(1)
        return lists_of(tgb_candidates(data, range(400), range(500, 600), 20, seed=seed))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2) != drawn((1, 1))


def test_lists_are_made_once_and_kept_beside_the_stream(tmp_path, monkeypatch):
    data, path = bipartite(), tmp_path / "lists.parquet"
    made = saved_tgb_candidates(data, range(400), range(500, 600), 20, seed=(1, 2), path=path)
    monkeypatch.setattr("pyg_mspipe.tasks.protocols.tgb.tgb_candidates", None)
    found = saved_tgb_candidates(data, range(400), range(500, 600), 20, seed=(1, 2), path=path)
    assert lists_of(found) == lists_of(made)
    others = {"num": (21, (1, 2)), "seed": (20, (1, 3))}
    for name, (num, seed) in others.items():
        with pytest.raises(StreamError, match=f"holds candidates made for {name} "):
            saved_tgb_candidates(data, range(400), range(500, 600), num, seed=seed, path=path)
    with pytest.raises(StreamError, match="made for train_events 0:400, not 0:300"):
        saved_tgb_candidates(data, range(300), range(500, 600), 20, seed=(1, 2), path=path)
    with pytest.raises(StreamError, match="made for another stream; delete the file to have the lists made anew"):
        saved_tgb_candidates(bipartite(seed=1), range(400), range(500, 600), 20, seed=(1, 2), path=path)


def test_what_is_kept_holds_no_half_of_it_when_writing_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "lists.parquet"
    monkeypatch.setattr("pyg_mspipe.tasks.protocols.candidates.parquet.write_table", fail)
    with pytest.raises(KeyboardInterrupt):
        saved_tgb_candidates(bipartite(), range(400), range(500, 600), 20, seed=0, path=path)
    assert list(tmp_path.iterdir()) == []


def test_no_negatives_are_refused():
    with pytest.raises(ValueError, match="num=0 negatives for each event; give at least 1"):
        tgb_candidates(bipartite(), range(400), range(500, 600), 0, seed=0)


def test_lists_take_half_the_place_where_ids_are_small():
    assert tgb_candidates(bipartite(), range(400), range(500, 600), 20, seed=0).dst.dtype == torch.int32
    assert isinstance(Candidates(0, torch.tensor([0, 1]), torch.tensor([3])).num, int)
