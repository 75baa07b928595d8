import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from small_runs import BlindExecutor, same, small_config, small_stream
from torch_geometric.data import TemporalData

from pyg_mspipe.tasks import Ranking, evaluate
from pyg_mspipe.training import Trainer


@pytest.fixture(scope="module")
def trained():
    trainer = Trainer(small_stream(), small_config(epochs=1, eval_negatives=5), executor=BlindExecutor())
    trainer.fit()
    return trainer, trainer.model.memory.state.save()


@pytest.fixture
def trainer(trained):
    trainer, memory = trained
    trainer.model.train()
    trainer.model.memory.state.load(memory)
    return trainer


@torch.no_grad()
def logits_by_hand(trainer, part):
    """The logits of each batch: [1 + K, B], events first."""
    trainer.model.eval()
    batches = trainer.batches(part, evaluation=True)
    trainer.model.settle(batches)
    found = []
    for index in range(len(batches)):
        batch = batches.read(0, index)
        found.append(trainer.task.logits(trainer.objective.embed(batch), batch))
        trainer.model.update(batch)
    return found


def one_negative(logits):
    return [1] * logits.size(1) + [0] * logits.size(1), logits[:2].flatten().sigmoid().tolist()


def rank_by_hand(logits):
    ranks = []
    for own, *negatives in logits.t().tolist():
        ranks.append(1 / (1 + sum(x > own for x in negatives) + sum(x == own for x in negatives) / 2))
    return ranks


def test_metrics_are_those_that_scikit_learn_gives_by_hand(trainer, trained):
    metrics = trainer.evaluate("val")
    trainer.model.train()
    trainer.model.memory.state.load(trained[1])
    by_batch = logits_by_hand(trainer, "val")
    together = torch.cat(by_batch, dim=1)
    aps = [average_precision_score(*one_negative(logits)) for logits in by_batch]
    aucs = [roc_auc_score(*one_negative(logits)) for logits in by_batch]
    assert metrics.ap == pytest.approx(sum(aps) / len(aps))
    assert metrics.auc == pytest.approx(sum(aucs) / len(aucs))
    assert metrics.mrr == pytest.approx(sum(rank_by_hand(together)) / together.size(1), rel=1e-5)
    assert (metrics.num_negatives, metrics.num_events) == (5, len(trainer.split.val))

    unseen = trainer.groups.new_ends(trainer.split.val) > 0
    assert 0 < int(unseen.sum()) < len(unseen)
    assert metrics.ap_unseen == pytest.approx(average_precision_score(*one_negative(together[:, unseen])))


def test_evaluation_from_the_same_memory_gives_the_same_metrics_and_memory(trainer, trained):
    first, after_first = trainer.evaluate("val"), trainer.model.memory.state.save()
    trainer.model.train()
    trainer.model.memory.state.load(trained[1])
    assert trainer.evaluate("val") == first
    assert same(trainer.model.memory.state.save(), after_first)


def test_evaluation_leaves_weights_and_random_numbers_alone(trainer):
    weights = {name: x.clone() for name, x in trainer.model.named_parameters()}
    state = torch.get_rng_state()
    trainer.evaluate("val")
    assert same({name: x.detach() for name, x in trainer.model.named_parameters()}, weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_moves_the_memory_to_the_end_of_its_events(trainer):
    split, data = trainer.split, trainer.data
    trainer.evaluate("val")
    last_update = trainer.model.memory.state.tables["last_update"]
    for event in list(split.val)[-20:]:
        for node in (data.src[event], data.dst[event]):
            seen = (data.src[: split.val.stop] == node) | (data.dst[: split.val.stop] == node)
            assert int(last_update[node]) == int(data.t[: split.val.stop][seen].max())


def test_no_events_with_unseen_nodes_have_no_metric():
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(4, (2, 200), generator=generator)
    data = TemporalData(src=src, dst=dst, t=torch.arange(200), msg=torch.zeros(200, 0))
    trainer = Trainer(data, small_config())
    assert not trainer.groups.new_ends(range(200)).any()
    assert trainer.evaluate("val").ap_unseen is None
    assert evaluate(trainer.objective, trainer.batches("test")).ap_unseen is None


def test_scores_of_all_batches_are_handed_on(trainer, trained):
    kept = []
    metrics = trainer.evaluate("val", on_scores=lambda events, scores: kept.append((events, scores)))
    trainer.model.train()
    trainer.model.memory.state.load(trained[1])
    [(events, scores)] = kept
    assert events == trainer.split.val
    rankings = [Ranking.of(logits).table for logits in logits_by_hand(trainer, "val")]
    assert all(torch.equal(*each) for each in zip(scores, rankings, strict=True))
    assert trainer.task.metrics(scores, events, trainer.groups) == metrics


def test_progress_is_told_of_every_event(trainer):
    told = []
    trainer.evaluate("test", told.append)
    assert told == [40, 40, 10]
