import pytest
import torch
import torch.nn.functional as F

from pyg_mspipe import split_stream, synthetic
from pyg_mspipe.data import Labels
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import NodeProperty


@pytest.fixture
def parts():
    generator, data = torch.Generator().manual_seed(0), synthetic(400, num_src=20, num_dst=20)
    t = data.t[torch.arange(10, 400, 13)].repeat_interleave(5)
    y = torch.rand(len(t), 15, generator=generator).softmax(1)
    return data, Labels.at(data, torch.randint(0, 20, (len(t),), generator=generator), t, y)


def test_loss_and_ndcg_are_those_of_tgb(parts):
    evaluator = pytest.importorskip("tgb.nodeproppred.evaluate").Evaluator(name="tgbn-genre")
    data, labels = parts
    torch.manual_seed(0)
    task = NodeProperty(6, labels=labels, split=split_stream(data))
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [])
    options = {"ask": task.queries, "labels": labels, "cut_at_labels": True, "make_plan": None}
    batches = Batches(data, range(400), 50, sampler, **options)
    scores, logits = [], []
    for index in range(len(batches)):
        batch = batches.read(0, index)
        if not batch.query_t.numel():
            continue
        z = torch.randn(len(batch.query_t), 6)
        logits.append(task.head(z).detach())
        scores.append(task.scores(z, batch).detach())
        assert torch.allclose(task.loss(z, batch), F.cross_entropy(task.head(z), batch.y))
    metrics = task.metrics(scores, range(400))
    judged = {"y_true": labels.y, "y_pred": torch.cat(logits), "eval_metric": ["ndcg"]}
    assert metrics.ndcg == evaluator.eval(judged)["ndcg"]
    assert metrics.num_labels == len(labels)
    assert task.line(metrics) == f"NDCG@10 {metrics.ndcg:.4f}"
    assert list(task.columns(metrics)) == ["labels", "NDCG@10"]


def test_negative_shares_are_refused(parts):
    data, labels = parts
    with pytest.raises(ValueError, match="labels from 0 on"):
        NodeProperty(6, labels=Labels(labels.event, labels.node, labels.t, -labels.y), split=split_stream(data))
