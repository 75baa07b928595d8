"""Heads that read more of a pair than its embeddings."""

from functools import partial

import pytest
import torch
from test_batches import random_stream
from test_negatives_of_ones_own import NUM_NODES, lists, pairs

from pyg_mspipe.data import NegativeSampler
from pyg_mspipe.graph import CommonNeighborFinder, NeighborSampler, PairFeatures, TemporalCSR
from pyg_mspipe.models import JODIE, TGAT, TGN
from pyg_mspipe.pipeline import Batches, PairReader
from pyg_mspipe.pipeline import parts as parts_module
from pyg_mspipe.tasks import LinkPrediction, Objective
from pyg_mspipe.tasks.evaluation import score_batches

DRAWS = {"lists": lists, "pairs": pairs, "uniform": NegativeSampler(0, NUM_NODES - 1, num=3)}
KINDS = {"tgn": TGN, "tgn of two layers": partial(TGN, num_layers=2), "jodie": JODIE}
HEADS = [("mlp", True), ("common", False), ("common", True)]


def objective_of(make=TGN, head="common", pair_features=True):
    torch.manual_seed(0)
    model = make(NUM_NODES, 3, memory_dim=8, time_dim=8)
    task = LinkPrediction(model.embedding_dim, head=head, pair_features=pair_features, row_dim=model.row_dim)
    return Objective(model, task)


def batches_of(objective, negatives, **options):
    data, model, task = random_stream(100), objective.model, objective.task
    csr = TemporalCSR.from_stream(data, NUM_NODES)
    reader = PairReader(
        PairFeatures.from_stream(csr, data.src, data.dst, range(40)) if task.pair_features else None,
        CommonNeighborFinder(csr, 4) if task.common_neighbors else None,
    )
    options = {"reads_moment": model.reads_moment, "with_ends": model.embeds_ends, "pairs": reader} | options
    sampler = NeighborSampler(csr, [4] * model.num_hops)
    return Batches(data, range(40, 100), 16, sampler, negatives, ask=task.queries, **options)


def logits_one_by_one(objective, batches, batch):
    """The logits of a batch's events and of their negatives, each pair asked about alone."""
    rows = []
    for column, e_id in enumerate(batch.events):
        t = int(batches.data.t[e_id])
        bound = batch.events.start if batches.cut_off == "batch" else int((batches.data.t < t).sum())

        def score(u, v, bound=bound, t=t):
            asked = batches.ask(torch.tensor([int(u)]), bound, t, dst=torch.tensor([int(v)]))
            return objective.score_pairs(asked).item()

        src = batch.src[column]
        row = [score(src, batch.dst[column])]
        for k, v in enumerate(batch.negatives.dst[:, column]):
            u = src if batch.negatives.src is None else batch.negatives.src[k, column]
            row.append(score(u, v) if v >= 0 else -torch.inf)
        rows.append(row)
    return torch.tensor(rows).t()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("draw", DRAWS)
@torch.no_grad()
def test_logits_of_a_batch_are_those_of_each_pair_alone(kind, cut_off, draw):
    objective = objective_of(KINDS[kind]).eval()
    batches = batches_of(objective, DRAWS[draw], cut_off=cut_off, embed_once=True)
    for index in range(2):
        batch = batches.read(0, index)
        logits = objective._of(batch, objective.task.logits)
        expected = logits_one_by_one(objective, batches, batch)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        objective.model.update(batch)


@pytest.mark.parametrize(("head", "pair_features"), HEADS)
@torch.no_grad()
def test_training_and_evaluation_score_pairs_alike(head, pair_features):
    objective = objective_of(TGN, head, pair_features).eval()
    logits = []
    for once in (False, True):
        batch = batches_of(objective, lists, embed_once=once).read(0, 1)
        logits.append(objective._of(batch, objective.task.logits))
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("head", "pair_features"), HEADS)
@torch.no_grad()
def test_parts_of_a_batch_bring_what_the_whole_brings(head, pair_features):
    objective = objective_of(TGN, head, pair_features).eval()
    batches = batches_of(objective, lists)
    whole = batches.events_of(1)
    logits = objective._of(batches.read(0, 1), objective.task.logits)
    parts = [range(whole.start, whole.start + 5), range(whole.start + 5, whole.stop)]
    found = [objective._of(batches.gather(batches.draw(e, 0, 1, whole)), objective.task.logits) for e in parts]
    torch.testing.assert_close(torch.cat(found, dim=1), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overlap", [False, True])
def test_evaluation_reads_few_pairs_at_once_and_scores_all(monkeypatch, overlap):
    def scores(most):
        monkeypatch.setattr(parts_module, "MOST_PAIRS", most)
        objective = objective_of().eval()
        batches = batches_of(objective, lists, embed_once=True)
        return score_batches(objective, batches, range(len(batches)), overlap=overlap)

    whole, parts = scores(10**6), scores(12)
    for index, each in whole.items():
        torch.testing.assert_close(each, parts[index], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("head", "pair_features"), HEADS)
def test_all_weights_of_a_head_and_the_rows_it_reads_get_gradients(head, pair_features):
    objective = objective_of(JODIE, head, pair_features)
    batches = batches_of(objective, DRAWS["uniform"])
    objective.model.update(batches.read(0, 0))
    objective(batches.read(0, 1)).backward()
    for name, weight in objective.task.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_a_plain_head_starts_with_the_weights_that_one_with_features_starts_with():
    plain, featured = (objective_of(TGN, "mlp", each).state_dict() for each in (False, True))
    assert set(featured) - set(plain) == {"task.head.lin_pair.weight"}
    assert all(value.equal(featured[name]) for name, value in plain.items() if value is not None)


@pytest.mark.parametrize(("head", "pair_features"), HEADS)
def test_a_head_without_what_it_reads_says_what_is_missing(head, pair_features):
    objective = objective_of(TGN, head, pair_features)
    with pytest.raises(ValueError, match=r"give Batches a PairReader, pairs="):
        objective(batches_of(objective, lists, pairs=None).read(0, 1))
    with pytest.raises(ValueError, match=r"this head reads more of pairs than their embeddings; .* Run\.score"):
        objective.task.score_pairs(torch.zeros(1, 100), torch.zeros(1, 100))


def test_a_model_that_hands_out_no_rows_has_no_common_head():
    with pytest.raises(ValueError, match="this model hands out no rows of them; let it define row_dim"):
        LinkPrediction(8, head="common")
    with pytest.raises(ValueError, match="head='bilinear' is unknown; choose one of mlp, common"):
        LinkPrediction(8, head="bilinear")
    with pytest.raises(ValueError, match="loss='hinge' is unknown; choose one of bce, softmax"):
        LinkPrediction(8, loss="hinge")


def test_the_softmax_loss_is_that_of_each_event_among_the_negatives_it_has():
    torch.manual_seed(0)
    model = TGAT(NUM_NODES, 3, embedding_dim=8, time_dim=8)
    objective = Objective(model, LinkPrediction(model.embedding_dim, loss="softmax", train_negatives=4)).eval()
    batch = batches_of(objective, lists, pairs=None).read(0, 1)
    logits = objective._of(batch, objective.task.logits)
    expected = -torch.stack([column[column.isfinite()].log_softmax(0)[0] for column in logits.t()]).mean()
    loss = objective(batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(x.grad.isfinite().all() for x in objective.parameters() if x.grad is not None)
