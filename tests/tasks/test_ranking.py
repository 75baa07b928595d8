import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.tasks import Ranking

LISTS = st.lists(st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=6), min_size=1, max_size=8)
"""Of each event its own score, and those of its negatives, of which there may be none."""


def scores_of(lists):
    """The scores as a task gives them: [1 + K, B]."""
    rows = [torch.tensor(each) for each in lists]
    return torch.nn.utils.rnn.pad_sequence(rows, padding_value=-torch.inf)


def ranks_by_hand(lists):
    return [1 + sum(x > own for x in others) + sum(x == own for x in others) / 2 for own, *others in lists]


@settings(deadline=None)
@given(LISTS)
def test_ranks_equal_those_counted_by_hand_with_ties_and_lists_of_any_length(lists):
    ranking = Ranking.of(scores_of(lists))
    assert ranking.rank.tolist() == ranks_by_hand(lists)
    assert ranking.num_negatives.tolist() == [len(each) - 1 for each in lists]
    assert ranking.pair.t().tolist() == [[*each, -torch.inf][:2] for each in lists]


@settings(deadline=None)
@given(LISTS)
def test_reciprocal_ranks_and_hits_are_those_of_tgb(lists):
    tgb = pytest.importorskip("tgb.linkproppred.evaluate")
    ranking = Ranking.of(scores_of(lists))
    for k in (1, 3, 10):
        evaluator = tgb.Evaluator(name="tgbl-wiki", k_value=k)
        found = []
        for own, *others in lists:
            scores = {"y_pred_pos": torch.tensor([own]), "y_pred_neg": torch.tensor([others])}
            found.append(evaluator.eval(scores | {"eval_metric": ["mrr"]}))
        assert ranking.hits(k) == pytest.approx(sum(each[f"hits@{k}"] for each in found) / len(lists))
        assert ranking.reciprocal.tolist() == pytest.approx([each["mrr"] for each in found])


def test_a_model_that_scores_all_alike_gains_nothing_by_it():
    assert Ranking.of(torch.zeros(11, 3)).rank.tolist() == [6.0] * 3


@settings(deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=4))
def test_batches_of_any_width_are_put_together(batches):
    whole = Ranking.together([Ranking.of(scores_of(lists)) for lists in batches])
    assert whole.rank.tolist() == [rank for lists in batches for rank in ranks_by_hand(lists)]
