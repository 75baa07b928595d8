from dataclasses import dataclass

import pytest
import torch

from pyg_mspipe.tasks import LinkMetrics, LinkPrediction, Metrics, Task


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

    def metrics(self, scores, events, unseen=None):
        return Two(0.5, len(events))


def test_a_task_shows_the_fields_of_its_metrics():
    task = Bare()
    assert task.columns(task.metrics([], range(3))) == {"good": "0.5000", "count": "3"}
    assert task.line(task.metrics([], range(3))) == "good 0.5000  count 3"


def test_a_task_is_known_by_its_class_and_counts_events():
    assert (Bare().name, LinkPrediction(4).name) == ("Bare", "LinkPrediction")
    assert Bare().count(range(5, 9)) == 4


def test_a_task_scores_no_pairs_unless_it_says_how():
    with pytest.raises(ValueError, match="task Bare scores no pairs of nodes; take the embeddings"):
        Bare().score_pairs(torch.zeros(2, 4), torch.zeros(2, 4))
    assert LinkPrediction(4).score_pairs(torch.zeros(1, 4), torch.zeros(3, 4)).shape == (3,)


def test_links_are_shown_with_what_their_numbers_are_of():
    task = LinkPrediction(4)
    metrics = LinkMetrics(ap=0.91, auc=0.92, mrr=0.5, num_negatives=10, ap_unseen=None, num_events=1234)
    assert task.line(metrics) == "AP 0.9100  AUC 0.9200  MRR@10 0.5000"
    columns = task.columns(metrics)
    assert (columns["count"], columns["AP, unseen nodes"]) == ("1,234", "-")
