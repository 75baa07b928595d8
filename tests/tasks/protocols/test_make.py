import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_streams import bipartite, columns, pair_columns, positives_of, true_of

from pyg_mspipe.data import StreamError, StreamSplit, load_stream, split_stream
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.parts import EvaluationBatches
from pyg_mspipe.tasks import Ranking
from pyg_mspipe.tasks.protocols import evaluation_negatives

SPLIT = StreamSplit(range(400), range(400, 500), range(500, 600))
PROTOCOLS = ("random", "historical", "inductive", "tgb")


def make(protocol, part="test", *, data=None, num=7, seed=0, **options):
    data = bipartite() if data is None else data
    return evaluation_negatives(protocol, data, SPLIT, part, num=num, seed=seed, low=25, high=84, **options)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("part", ["val", "test"])
def test_each_protocol_ranks_the_events_of_both_parts_among_as_many_as_wanted(protocol, part):
    data = bipartite()
    batches = Batches(
        data,
        getattr(SPLIT, part),
        30,
        NeighborSampler(TemporalCSR.from_stream(data), [3]),
        make(protocol, part),
        embed_once=True,
    )
    for index in range(len(batches)):
        whole = batches.read(0, index)
        assert whole.negatives.dst.shape == (7, len(whole.events))
        same_source = whole.negatives.src == whole.src if whole.negatives.src is not None else torch.tensor(True)
        assert not (same_source & (whole.negatives.dst == whole.dst)).any()
        source = EvaluationBatches(batches, range(len(batches)), 50)
        parts = list(source.parts(index, source.draw(whole.events, 0, index)))
        assert len(parts) > 1
        assert torch.equal(torch.cat([each.negatives.dst for each in parts], dim=1), whole.negatives.dst)
        if whole.negatives.src is not None:
            assert torch.equal(torch.cat([each.negatives.src for each in parts], dim=1), whole.negatives.src)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("num", [7, 50])
def test_what_is_filtered_is_never_true(protocol, num):
    data = bipartite()
    draw = make(protocol, num=num, filtered=True)
    positives = positives_of(data, range(520, 560), batch=1)
    negatives = draw(positives)
    lists = columns(negatives) if negatives.src is None else None
    pairs = pair_columns(negatives) if lists is None else None
    for n, (u, t) in enumerate(zip(positives.src.tolist(), positives.t.tolist(), strict=True)):
        for src, dst in pairs[n] if lists is None else ((u, v) for v in lists[n]):
            assert dst not in true_of(data, src, t)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_seed_and_the_part_decide_what_is_drawn(protocol):
    data = bipartite()
    positives = positives_of(data, range(500, 530))
    drawn = [make(protocol, seed=seed)(positives).dst.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_file_is_a_protocol_too(tmp_path):
    np.save(tmp_path / "mine.npy", np.full((100, 3), 30))
    draw = make(tmp_path / "mine.npy")
    assert draw(positives_of(bipartite(), range(590, 600))).dst.tolist() == [[30] * 10] * 3


def test_an_unknown_protocol_is_refused():
    with pytest.raises(
        ValueError, match=r"protocol 'hard' is unknown; choose one of random, historical, inductive, tgb"
    ):
        make("hard")


def test_lists_by_tgbs_rule_are_kept_in_a_folder_for_each_part(tmp_path):
    folder = tmp_path / "kept"
    first = make("tgb", cache=folder)
    make("tgb", "val", cache=folder)
    names = ["tgb_test_7_seed0_400_500-600.parquet", "tgb_val_7_seed0_400_400-500.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert torch.equal(make("tgb", cache=folder).dst, first.dst)
    with pytest.raises(
        StreamError, match=r"tgb_test_7_seed0_400_500-600\.parquet holds candidates made for another stream; delete"
    ):
        make("tgb", data=bipartite(seed=3), cache=folder)


def tgb_set(root):
    """A small set in the form in which py-tgb keeps tgbl-wiki, with lists of its test events."""
    folder = root / "tgbl_wiki"
    folder.mkdir(parents=True)
    rows = [f"{n % 5},{n * n % 7},{n},0,0.5" for n in range(100)]
    (folder / "tgbl-wiki_edgelist_v2.csv").write_text("\n".join(["user_id,item_id,timestamp,state,feature", *rows]))
    data = load_stream("tgbl-wiki", root=root)
    events = zip(*(data[name].tolist() for name in ("src", "dst", "t")), strict=True)
    lists = {key: np.array([key[1] % 4 + 5, *range(5, 5 + key[0])], dtype=float) for key in list(events)[80:]}
    (folder / "tgbl-wiki_test_ns_v2.pkl").write_bytes(pickle.dumps(lists))
    return data, lists, folder


def test_a_set_of_tgb_has_its_own_lists_which_are_ragged(tmp_path):
    pytest.importorskip("tgb.linkproppred.dataset")
    data, lists, folder = tgb_set(tmp_path)
    split = split_stream(data)
    options = {"num": 999, "seed": 0, "low": 5, "high": 9, "name": "tgbl-wiki", "root": tmp_path}
    draw = evaluation_negatives("tgb", data, split, "test", **options)
    positives = positives_of(data, split.test)
    keys = zip(positives.src.tolist(), positives.dst.tolist(), positives.t.tolist(), strict=True)
    assert columns(draw(positives)) == [lists[key].astype(int).tolist() for key in keys]
    for part, message in (("val", "val_ns_v2.pkl is not there"), ("test", "test_ns_v2.pkl cannot be read")):
        (folder / "tgbl-wiki_test_ns_v2.pkl").write_bytes(b"nothing")
        with pytest.raises(
            StreamError, match=rf"^TGB's {part} negatives of tgbl-wiki: .*{message}.*; delete "
        ) as raised:
            evaluation_negatives("tgb", data, split, part, **options)
        assert "\n" not in str(raised.value)


def test_a_set_of_tgb_that_is_split_in_another_way_is_refused(tmp_path):
    pytest.importorskip("tgb.linkproppred.dataset")
    data, _, _ = tgb_set(tmp_path)
    split = split_stream(data, val_time=50, test_time=60)
    with pytest.raises(StreamError, match=r"^tgbl-wiki: event 60 \(from 0 to 7 at time 60\) has no list of negatives"):
        evaluation_negatives("tgb", data, split, "test", num=9, seed=0, low=5, high=9, name="tgbl-wiki", root=tmp_path)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-2, 2).map(float), min_size=2, max_size=7), min_size=1, max_size=8))
def test_reciprocal_ranks_are_those_of_py_tgbs_evaluator_on_ragged_lists(rows):
    evaluator = pytest.importorskip("tgb.linkproppred.evaluate").Evaluator(name="tgbl-wiki")
    longest = max(map(len, rows))
    logits = torch.tensor([row + [-torch.inf] * (longest - len(row)) for row in rows]).t()
    for row, found in zip(rows, Ranking.of(logits).reciprocal.tolist(), strict=True):
        scores = {"y_pred_pos": np.array(row[:1]), "y_pred_neg": np.array(row[1:]), "eval_metric": ["mrr"]}
        assert found == pytest.approx(float(evaluator.eval(scores)["mrr"]), abs=1e-6)
