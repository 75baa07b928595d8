"""What batches bring of pairs, and scores that read it."""

from itertools import pairwise

import pytest
import torch
from test_batches import random_stream
from test_negatives_of_ones_own import NUM_NODES, lists, pairs

from pyg_mspipe.data import Negatives, NegativeSampler
from pyg_mspipe.data.tensor_tree import map_tensors
from pyg_mspipe.graph import CommonNeighborFinder, NeighborSampler, PairFeatures, TemporalCSR
from pyg_mspipe.models import TGN
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.pipeline import Batches, PairReader
from pyg_mspipe.pipeline import parts as parts_module
from pyg_mspipe.tasks import LinkPrediction, Objective
from pyg_mspipe.tasks.evaluation import score_batches

SAMPLER = NegativeSampler(0, NUM_NODES - 1, num=3)


def objective_of(kind=TGN, head="common", num_layers=1):
    torch.manual_seed(0)
    sizes = {"time_dim": 8} if kind.__name__ == "TGAT" else {"memory_dim": 8, "time_dim": 8}
    if kind.__name__ in ("TGN", "TGAT", "DyRep"):
        sizes["num_layers"] = num_layers
    model = kind(NUM_NODES, 3, **sizes)
    return Objective(model, LinkPrediction(model.embedding_dim, head=head, pair_features=True, row_dim=model.row_dim))


def batches_of(objective, negatives, **options):
    data, model = random_stream(100), objective.model
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    features = PairFeatures.from_stream(csr, data.src, data.dst, range(40))
    common = CommonNeighborFinder(csr, 4) if objective.task.common_neighbors else None
    options = {
        "reads_moment": model.reads_moment,
        "with_ends": model.embeds_ends,
        "ask": objective.task.queries,
    } | options
    options["make_plan"] = None if model.memory is None else model.memory.make_plan
    sampler = NeighborSampler(csr, [4] * model.num_hops)
    return Batches(data, range(40, 100), 16, sampler, negatives, pairs=PairReader(features, common), **options)


def scores_one_by_one(objective, batches, index, negatives):
    """The logits of a batch's events and of their negatives, each pair asked about alone."""
    whole, data = batches.events_of(index), batches.data
    out = torch.full((1 + negatives.dst.size(0), len(whole)), -torch.inf)
    for event, e_id in enumerate(whole):
        for row in range(out.size(0)):
            one = negatives.dst[:0], None if negatives.src is None else negatives.src[:0]
            src, dst = data.src[e_id], data.dst[e_id]
            if row:
                one = negatives.dst[row - 1 : row], None if negatives.src is None else negatives.src[row - 1 : row]
                src, dst = src if one[1] is None else one[1][0, event], one[0][0, event]
            if int(dst) < 0:
                continue
            if batches.cut_off == "batch":
                batch = batches.ask(src.view(1), whole.start, int(data.t[e_id]), dst=dst.view(1))
                out[row, event] = objective.score_pairs(batch).item()
            else:
                # Neighbours are newer than the memory, which is as of the whole batch.
                part = batches.draw(range(e_id, e_id + 1), 0, index, whole, negatives=Negatives(*one))
                out[row, event] = objective._of(batches.gather(part), objective.task.logits)[-1, 0]
    return out


@pytest.mark.parametrize("embed_once", [False, True])
@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("kind", [*MODELS, "tgn-two-layers"])
@torch.no_grad()
def test_scores_are_those_of_each_pair_asked_about_alone(kind, cut_off, embed_once):
    name, _, two = kind.partition("-")
    objective = objective_of(MODELS[name], num_layers=2 if two else 1).eval()
    for draw in (lists, pairs, SAMPLER):
        batches = batches_of(objective, draw, cut_off=cut_off, embed_once=embed_once)
        batch = batches.read(0, 1)
        alone = scores_one_by_one(objective, batches, 1, batch.negatives)
        z, rows = objective.model.embed_with_rows(batch)
        assert torch.equal(z, objective.model(batch))
        logits = objective._of(batch, objective.task.logits)
        assert rows.shape == (batch.n_id.numel(), objective.model.row_dim)
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
        objective.model.update(batch)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("kind", ["tgn", "jodie"])
def test_parts_of_a_batch_bring_together_what_the_batch_brings(cut_off, kind):
    batches = batches_of(objective_of(MODELS[kind]), SAMPLER, cut_off=cut_off)
    events = batches.events_of(2)
    whole = batches.read(3, 2)
    edges = [events.start, events.start + 5, events.start + 6, events.stop]
    parts = [batches.gather(batches.draw(range(*edge), 3, 2, events)) for edge in pairwise(edges)]
    assert torch.equal(torch.cat([part.pairs.features for part in parts], dim=1), whole.pairs.features)

    def found(batch):
        common, first = batch.pairs.common, 4 * (batch.events.start - events.start)
        pair, order = common.pair[common.slot // 3] + first, common.slot % 3
        return list(zip(pair.tolist(), order.tolist(), batch.n_id[common.node].tolist(), strict=True))

    assert [each for part in parts for each in found(part)] == found(whole)
    moved = map_tensors(whole, torch.clone)
    assert torch.equal(moved.pairs.features, whole.pairs.features)
    assert torch.equal(moved.pairs.common.slot, whole.pairs.common.slot)


@pytest.mark.parametrize("head", ["mlp", "common"])
def test_many_pairs_are_scored_in_parts_with_the_same_result(monkeypatch, head):
    def evaluated():
        objective = objective_of(head=head)
        batches = batches_of(objective, SAMPLER, embed_once=True)
        return score_batches(objective, batches, range(len(batches))), objective.model.state.save()

    whole, memory = evaluated()
    monkeypatch.setattr(parts_module, "MOST_PAIRS", 9)
    parts, memory_of_parts = evaluated()
    for index, scores in whole.items():
        torch.testing.assert_close(scores, parts[index], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, memory_of_parts[name]) for name, value in memory.items())


def test_a_head_that_reads_pairs_says_what_batches_lack():
    objective = objective_of()
    batches = batches_of(objective, SAMPLER)
    batches.pairs = None
    with pytest.raises(ValueError, match="give Batches a PairReader, pairs="):
        objective(batches.read(0, 1))
    with pytest.raises(ValueError, match=r"score them with Run\.score"):
        objective.task.score_pairs(torch.zeros(1, 8), torch.zeros(1, 8))
