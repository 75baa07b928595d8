"""Negatives that somebody's own function gives: ragged ones, and pairs with sources of their own."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import random_stream

from pyg_mspipe.data import Negatives, NegativeSampler
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.models import JODIE, TGN
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.parts import EvaluationBatches
from pyg_mspipe.tasks import LinkPrediction, Objective, link_loss
from pyg_mspipe.tasks.evaluation import score_batches

NUM_NODES = 12


def lists(positives):
    """From none to four destinations for each event, decided by its id."""
    return [[(7 * e + k) % NUM_NODES for k in range(e % 5)] for e in positives.events]


def pairs(positives):
    """Two pairs for each event, whose sources are not the event's."""
    e_id = torch.tensor(positives.events)
    return Negatives(torch.stack([e_id % 7, e_id % 5]), torch.stack([e_id % 11, (e_id + 3) % NUM_NODES]))


def objective_of(kind=TGN):
    torch.manual_seed(0)
    model = kind(NUM_NODES, 3, memory_dim=8, time_dim=8)
    return Objective(model, LinkPrediction(model.embedding_dim))


def batches_of(objective, negatives, **options):
    data, model = random_stream(100), objective.model
    sampler = NeighborSampler(TemporalCSR.from_stream(data, NUM_NODES), [4] * model.num_hops)
    options = {"reads_moment": model.reads_moment, "ask": objective.task.queries} | options
    return Batches(data, range(40, 100), 16, sampler, negatives, **options)


def scores_one_by_one(objective, batches, index):
    """The logits of a batch's events and of their negatives, each pair embedded and scored alone."""
    rows = []
    for e_id in batches.events_of(index):
        batch = batches.gather(batches.draw(range(e_id, e_id + 1), 0, index, batches.events_of(index)))
        z = objective.model(batch)
        negatives = batch.negatives
        num = negatives.dst.size(0)
        row = [objective.task.score_pairs(z[0], z[1]).item()]
        for k in range(num):
            source = z[0] if negatives.src is None else z[2 + num + k]
            there = int(negatives.dst[k, 0]) >= 0
            row.append(objective.task.score_pairs(source, z[2 + k]).item() if there else -torch.inf)
        rows.append(row)
    return torch.tensor(rows).t()


@pytest.mark.parametrize("kind", [TGN, JODIE])
@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("draw", [lists, pairs, NegativeSampler(0, NUM_NODES - 1, num=3)])
@torch.no_grad()
def test_scores_of_evaluation_are_those_of_each_pair_alone(kind, cut_off, draw):
    objective = objective_of(kind).eval()
    batches = batches_of(objective, draw, cut_off=cut_off, embed_once=True)
    alone = batches_of(objective, draw, cut_off=cut_off)
    for index in range(len(batches)):
        batch = batches.read(0, index)
        scores = objective.task.logits(objective.embed(batch), batch)
        torch.testing.assert_close(scores, scores_one_by_one(objective, alone, index), rtol=1e-5, atol=1e-6)
        objective.model.update(batch)


@pytest.mark.parametrize("kind", [TGN, JODIE])
@torch.no_grad()
def test_a_node_is_embedded_once_for_all_who_ask_for_it_at_one_moment(kind):
    objective = objective_of(kind)
    batch = batches_of(objective, NegativeSampler(0, NUM_NODES - 1, num=50), embed_once=True).read(0, 1)
    asked = torch.cat([batch.src, batch.dst, *batch.negatives.dst])
    moments = batch.t.repeat(52) if objective.model.reads_moment else torch.zeros_like(asked)
    assert batch.query_t.numel() == len(set(zip(asked.tolist(), moments.tolist(), strict=True)))
    assert torch.equal(batch.n_id[batch.sample.seed_node][batch.asked], asked)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@settings(deadline=None, max_examples=10)
@given(most=st.integers(1, 60), index=st.integers(0, 3))
def test_parts_of_a_batch_of_evaluation_together_ask_what_it_asks(cut_off, most, index):
    objective = objective_of(JODIE)
    batches = batches_of(objective, lists, cut_off=cut_off, embed_once=True)
    whole = batches.read(0, index)
    source = EvaluationBatches(batches, range(4), most)
    drawn = source.draw(whole.events, 0, index)
    assert drawn.query_t.numel() in (0, whole.query_t.numel())
    parts = list(source.parts(index, source.gather(drawn)))
    assert [e for part in parts for e in part.events] == list(whole.events)
    assert all(a.events.stop == b.events.start for a, b in pairwise(parts))
    assert torch.equal(torch.cat([part.negatives.dst for part in parts], dim=1), whole.negatives.dst)
    if len(parts) > 1:
        assert all(part.query_t.numel() <= max(most, 2 + whole.negatives.dst.size(0)) for part in parts)


@pytest.mark.parametrize("overlap", [False, True])
def test_parts_give_the_scores_and_the_memory_of_whole_batches(monkeypatch, overlap):
    def evaluated(most, overlap):
        monkeypatch.setattr(EvaluationBatches.__init__, "__defaults__", (most,))
        objective = objective_of(JODIE)
        batches = batches_of(objective, lists, embed_once=True)
        scores = score_batches(objective, batches, range(len(batches)), overlap=overlap)
        return scores, objective.model.state.save()

    (whole, memory), (parts, memory_of_parts) = evaluated(10**6, False), evaluated(9, overlap)
    for index, scores in whole.items():
        torch.testing.assert_close(scores, parts[index], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, memory_of_parts[name]) for name, value in memory.items())


def test_the_loss_of_ragged_negatives_is_a_mean_over_those_there_are():
    objective = objective_of()
    batch = batches_of(objective, lists).read(0, 1)
    loss = objective(batch)
    assert loss.isfinite()
    scores = objective.task.logits(objective.embed(batch), batch)
    there = batch.negatives.dst >= 0
    assert torch.equal(scores[1:].isinf(), ~there)
    positive = torch.nn.functional.softplus(-scores[0]).mean()
    torch.testing.assert_close(loss, positive + torch.nn.functional.softplus(scores[1:][there]).mean())
    loss.backward()
    assert all(x.grad.isfinite().all() for x in objective.parameters() if x.grad is not None)


def test_without_anything_missing_the_loss_is_that_of_all():
    logits = torch.randn(3, 5)
    torch.testing.assert_close(link_loss(logits, torch.ones(2, 5).bool()), link_loss(logits))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda at: torch.zeros(len(at), 2).long(),
            r"negatives of batch 1: torch.int64 of shape \[16, 2\] for 16 events",
        ),
        (lambda at: torch.zeros(2, len(at)), r"torch.float32 of shape \[2, 16\] for 16 events; give int64"),
        (lambda at: [[3]] * (len(at) - 1), r"of shape \[1, 15\] for 16 events; .* or a list for each event"),
        (lambda at: torch.full((1, len(at)), 12), "node 12 is none of the stream's 12; number them as the stream does"),
        (lambda at: torch.full((1, len(at)), -1), "node -1 is none of the stream's 12"),
        (
            lambda at: [[0, 1]] * (len(at) - 1) + [[-1]],
            "negatives of event 15 of the batch: node -1; nodes are numbered from 0",
        ),
        (
            lambda at: Negatives(torch.zeros(1, len(at)).long(), torch.full((1, len(at)), 99)),
            "negatives sources of batch 1: node 99",
        ),
    ],
)
def test_what_is_no_negative_is_refused(draw, message):
    batches = batches_of(objective_of(), draw)
    with pytest.raises(ValueError, match=message):
        batches.read(0, 1)
