from dataclasses import dataclass

import pytest
import torch

from pyg_mspipe.tasks import LinkPrediction, Metrics, Task


@dataclass(frozen=True)
class Two(Metrics):
    good: float
    count: int


class Bare(Task):
    best = best_label = "good"

    def loss(self, z, batch):
        return z.mean()

    def scores(self, z, batch):
        return z

    def metrics(self, scores, events, groups=None):
        return Two(0.5, len(events))


def test_a_task_shows_the_fields_of_its_metrics():
    task = Bare()
    assert task.columns(task.metrics([], range(3))) == {"good": "0.5000", "count": "3"}
    assert task.line(task.metrics([], range(3))) == "good 0.5000  count 3"
    assert task.group_columns(task.metrics([], range(3))) == {}


def test_a_task_is_known_by_its_class_and_counts_events():
    assert (Bare().name, LinkPrediction(4).name) == ("Bare", "LinkPrediction")
    assert Bare().count(range(5, 9)) == 4


def test_a_task_scores_no_pairs_unless_it_says_how():
    with pytest.raises(ValueError, match="task Bare scores no pairs of nodes; take the embeddings"):
        Bare().score_pairs(torch.zeros(2, 4), torch.zeros(2, 4))
    assert LinkPrediction(4).score_pairs(torch.zeros(1, 4), torch.zeros(3, 4)).shape == (3,)
