import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pyg_mspipe import Batches, NeighborSampler, TemporalCSR, split_stream, synthetic
from pyg_mspipe.data import Labels
from pyg_mspipe.tasks import EdgeClassification, NodeClassification

DIM = 6


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def made(y, task=NodeClassification, **options):
    """A task on the labels of a stream, and a batch of it."""
    data = synthetic(len(y), num_src=20, num_dst=20)
    data.y = y
    torch.manual_seed(0)
    labels = Labels.of_stream(data)
    task = task(DIM, labels=labels, split=split_stream(data), **options)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [])
    batches = Batches(data, range(len(y)), 50, sampler, ask=task.queries, labels=labels, make_plan=None)
    return task, batches.read(0, 1)


@pytest.mark.parametrize("task", [NodeClassification, EdgeClassification])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_two_classes_are_told_by_one_logit(task, weights, generator):
    y = (torch.rand(400, generator=generator) < 0.2).long()
    task, batch = made(y, task, class_weights=weights)
    z = torch.randn(len(batch.query_t), DIM, generator=generator)
    assert batch.y.equal(y[50:100])
    read = z if isinstance(task, NodeClassification) else torch.cat([z[:50], z[50:]], dim=1)
    logits = task.head(read).view(-1)
    train = y[:280].float()
    weight = (1 - train).sum() / train.sum() if weights == "balanced" else None
    expected = F.binary_cross_entropy_with_logits(logits, batch.y.float(), pos_weight=weight)
    assert torch.allclose(task.loss(z, batch), expected)
    scores = task.scores(z, batch).detach()
    metrics = task.metrics([scores[:20], scores[20:]], range(50, 100))
    assert metrics.auc == roc_auc_score(batch.y, logits.detach())
    assert metrics.ap == average_precision_score(batch.y, logits.detach())
    assert metrics.num_labels == 50
    assert (task.best, task.best_label, task.chance) == ("auc", "AUC", 0.5)
    assert list(task.columns(metrics)) == ["labels", "AUC", "AP"]
    assert task.line(metrics) == f"AUC {metrics.auc:.4f}  AP {metrics.ap:.4f}"


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_many_classes_have_a_logit_each(weights, generator):
    y = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 400, replacement=True, generator=generator)
    task, batch = made(y, class_weights=weights)
    z = torch.randn(50, DIM, generator=generator)
    logits = task.head(z)
    count = torch.bincount(y[:280], minlength=3)
    weight = 280 / (3 * count) if weights == "balanced" else torch.ones(3)
    expected = (F.cross_entropy(logits, batch.y, reduction="none") * weight[batch.y]).mean()
    assert torch.allclose(task.loss(z, batch), expected)
    metrics = task.metrics([task.scores(z, batch).detach()], range(50, 100))
    told = logits.argmax(1)
    assert metrics.f1_micro == pytest.approx(float((told == batch.y).float().mean()))
    assert metrics.f1_macro == f1_score(batch.y, told, average="macro")
    assert metrics.majority == pytest.approx(float((batch.y == 0).float().mean()))
    assert task.best == "f1_micro"
    assert list(task.columns(metrics)) == ["labels", "F1", "F1, mean", "majority"]


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_of_several_classes_at_once_each_is_told(weights, generator):
    y = (torch.rand(400, 3, generator=generator) < 0.3).float()
    task, batch = made(y, EdgeClassification, class_weights=weights)
    z = torch.randn(100, DIM, generator=generator)
    logits = task.head(torch.cat([z[:50], z[50:]], dim=1))
    count = y[:280].sum(0)
    weight = (280 - count) / count if weights == "balanced" else None
    expected = F.binary_cross_entropy_with_logits(logits, batch.y, pos_weight=weight)
    assert torch.allclose(task.loss(z, batch), expected)
    metrics = task.metrics([task.scores(z, batch).detach()], range(50, 100))
    assert metrics.f1_micro == f1_score(batch.y, logits > 0, average="micro")
    assert metrics.ap == average_precision_score(batch.y, logits.detach(), average="micro")
    assert task.best == "ap"
    assert list(task.columns(metrics)) == ["labels", "AP", "F1", "F1, mean"]


def test_a_label_is_counted_where_it_is_asked_for(generator):
    y = torch.rand(400, generator=generator).round()
    y[50:90] = float("nan")
    task, batch = made(y)
    assert (task.count(range(0, 400)), task.count(range(50, 90)), task.count(range(50, 100))) == (360, 0, 10)
    assert len(batch.y) == 10
    assert batch.query_t.equal(batch.t[40:])
