import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe import LinkPredictor
from pyg_mspipe.tasks import LinkPrediction, link_loss
from pyg_mspipe.tasks.link import reciprocal_rank


def rank_by_hand(logits):
    ranks = []
    for own, *negatives in logits.t().tolist():
        ranks.append(1 / (1 + sum(x > own for x in negatives) + sum(x == own for x in negatives) / 2))
    return ranks


def test_the_loss_is_the_cross_entropy_of_events_plus_that_of_negatives():
    logits = torch.tensor([[1.5, -0.5], [0.25, 2.0], [-1.0, 0.0]])
    positive = -sum(math.log(1 / (1 + math.exp(-x))) for x in (1.5, -0.5)) / 2
    negative = -sum(math.log(1 - 1 / (1 + math.exp(-x))) for x in (0.25, 2.0, -1.0, 0.0)) / 4
    assert link_loss(logits).item() == pytest.approx(positive + negative, rel=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(-2, 2).map(float), min_size=4, max_size=4), min_size=1, max_size=8).map(torch.tensor)
)
def test_reciprocal_ranks_equal_those_counted_by_hand_with_ties(rows):
    assert reciprocal_rank(rows.t()).tolist() == pytest.approx(rank_by_hand(rows.t()))


def test_a_model_that_scores_all_alike_gains_nothing_by_it():
    assert reciprocal_rank(torch.zeros(11, 3)).tolist() == pytest.approx([1 / 6] * 3)


def test_the_head_starts_where_a_link_predictor_does():
    torch.manual_seed(0)
    alone = LinkPredictor(6).state_dict()
    torch.manual_seed(0)
    task = LinkPrediction(6).head.state_dict()
    assert all(torch.equal(task[name], value) for name, value in alone.items())
