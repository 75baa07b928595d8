import math

import pytest
import torch

from pyg_mspipe import LinkPredictor
from pyg_mspipe.tasks import LinkPrediction, link_loss, softmax_loss


def test_the_loss_is_the_cross_entropy_of_events_plus_that_of_negatives():
    logits = torch.tensor([[1.5, -0.5], [0.25, 2.0], [-1.0, 0.0]])
    positive = -sum(math.log(1 / (1 + math.exp(-x))) for x in (1.5, -0.5)) / 2
    negative = -sum(math.log(1 - 1 / (1 + math.exp(-x))) for x in (0.25, 2.0, -1.0, 0.0)) / 4
    assert link_loss(logits).item() == pytest.approx(positive + negative, rel=1e-6)


@pytest.mark.parametrize("num", [0, 2])
def test_where_a_batch_has_no_negative_the_loss_is_that_of_its_events(num):
    logits = torch.tensor([[1.5, -0.5], [-torch.inf, -torch.inf], [-torch.inf, -torch.inf]])[: 1 + num]
    there = torch.zeros(num, 2, dtype=torch.bool)
    expected = (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(0.5))) / 2
    assert link_loss(logits, there).item() == pytest.approx(expected, rel=1e-6)
    assert link_loss(logits[:1]).item() == pytest.approx(expected, rel=1e-6)


def test_the_head_starts_where_a_link_predictor_does():
    torch.manual_seed(0)
    alone = LinkPredictor(6).state_dict()
    torch.manual_seed(0)
    task = LinkPrediction(6).head.state_dict()
    assert all(torch.equal(task[name], value) for name, value in alone.items())


def test_softmax_is_the_cross_entropy_of_each_event_among_the_negatives_there_are():
    logits = torch.tensor([[1.5, -0.5], [0.25, 2.0], [-torch.inf, 0.0]])
    own = [math.exp(1.5) / (math.exp(1.5) + math.exp(0.25)), math.exp(-0.5) / (math.exp(-0.5) + math.exp(2) + 1)]
    assert softmax_loss(logits).item() == pytest.approx(-sum(map(math.log, own)) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge' is unknown; choose one of bce, softmax"),
        ({"head": "cosine"}, "head='cosine' is unknown; choose one of mlp, common"),
        ({"head": "common"}, "head common sums what the model knows of nodes, but this model hands out no rows"),
    ],
)
def test_losses_and_heads_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LinkPrediction(4, **options)
