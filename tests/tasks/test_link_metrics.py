import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from test_ranking import ranks_by_hand, scores_of
from torch_geometric.data import TemporalData

from pyg_mspipe.data import EventGroups, StreamSplit
from pyg_mspipe.tasks import LinkPrediction, Ranking, link_metrics

LISTS = st.lists(st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=5), min_size=1, max_size=6)
BATCHES = st.lists(LISTS, min_size=1, max_size=4).filter(lambda batches: any(len(x) > 1 for b in batches for x in b))


def pairs(lists):
    """Labels and scores of the events with negatives and of the first of each."""
    own = [each[0] for each in lists if len(each) > 1]
    return [1] * len(own) + [0] * len(own), own + [each[1] for each in lists if len(each) > 1]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def groups_of(num_events, train, seed=0):
    """A small stream with ties in activity, of which few nodes are seen in training."""
    src, dst = torch.randint(9, (2, num_events), generator=torch.Generator().manual_seed(seed))
    data = TemporalData(src=src, dst=dst, t=torch.arange(num_events))
    return EventGroups.of(data, StreamSplit(range(train), range(train, num_events), range(num_events, num_events)))


@settings(deadline=None, max_examples=40)
@given(BATCHES, st.integers(1, 6), st.booleans())
def test_metrics_are_those_of_scikit_learn_and_of_ranks_counted_by_hand(batches, train, logits):
    whole = [each for lists in batches for each in lists]
    events = range(train, train + len(whole))
    groups = groups_of(events.stop, train)
    metrics = link_metrics([Ranking.of(scores_of(lists)) for lists in batches], events, groups, logits=logits)
    with_negatives = [pairs(lists) for lists in batches if pairs(lists)[0]]
    ranks = ranks_by_hand(whole)
    assert metrics.ap == pytest.approx(mean(average_precision_score(*each) for each in with_negatives))
    assert metrics.auc == pytest.approx(mean(roc_auc_score(*each) for each in with_negatives))
    assert metrics.ap_micro == pytest.approx(average_precision_score(*pairs(whole)))
    assert metrics.auc_micro == pytest.approx(roc_auc_score(*pairs(whole)))
    assert metrics.mrr == pytest.approx(mean(1 / rank for rank in ranks))
    for k, found in ((1, metrics.hits_1), (3, metrics.hits_3), (10, metrics.hits_10)):
        assert found == pytest.approx(mean(rank <= k for rank in ranks))
    assert (metrics.num_events, metrics.num_negatives) == (len(whole), max(map(len, whole)) - 1)

    masks = groups.masks(events)
    assert metrics.groups.keys() == masks.keys()
    for name, mask in masks.items():
        own, found = [each for each, there in zip(whole, mask.tolist(), strict=True) if there], metrics.groups[name]
        expected = average_precision_score(*pairs(own)) if pairs(own)[0] else None
        assert found.ap == (None if expected is None else pytest.approx(expected))
        assert found.mrr == pytest.approx(mean(1 / rank for rank in ranks_by_hand(own)))
        assert found.hits_10 == pytest.approx(mean(rank <= 10 for rank in ranks_by_hand(own)))
        assert found.num_events == len(own)
    assert metrics.ap_unseen == (metrics.groups["inductive"].ap if "inductive" in masks else None)


def test_without_groups_there_is_no_metric_of_any():
    metrics = link_metrics([Ranking.of(torch.randn(4, 5))], range(5))
    assert (metrics.groups, metrics.ap_unseen) == ({}, None)


def test_events_without_a_single_negative_are_refused():
    with pytest.raises(ValueError, match="no event of 5 to 7 has a negative; give each at least one"):
        link_metrics([Ranking.of(torch.zeros(1, 3))], range(5, 8))


def test_metrics_are_plain_values_that_json_holds():
    metrics = asdict(link_metrics([Ranking.of(torch.randn(4, 60))], range(60, 120), groups_of(120, 60)))
    assert json.loads(json.dumps(metrics)) == metrics
    assert set(metrics["groups"]["transductive"]) == {"num_events", "mrr", "hits_10", "ap"}


def test_tables_say_what_their_numbers_are_of():
    task = LinkPrediction(4)
    metrics = task.metrics(
        [Ranking.of(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])).table], range(60, 62), groups_of(62, 60)
    )
    assert task.line(metrics) == "AP 0.7500  AUC 0.5000  MRR@2 0.6667"
    expected = {"count": "2", "AP": "0.7500", "AUC": "0.5000", "MRR@2": "0.6667", "Hits@10": "1.0000"}
    assert task.columns(metrics) == expected | {"AP, unseen nodes": "-"}
    of_all = {name: expected[name] for name in ("count", "AP", "MRR@2", "Hits@10")}
    assert task.group_columns(metrics)["transductive"] == of_all
