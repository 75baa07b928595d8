"""Training on padded batches, which a GPU is given, is training on the batches themselves."""

import itertools
from dataclasses import replace

import pytest
import torch

from pyg_mspipe import NegativeSampler, TrainConfig, Trainer, synthetic
from pyg_mspipe.data.tensor_tree import tensors_of
from pyg_mspipe.memory.rows import find
from pyg_mspipe.pipeline.padding import Padding, size_of, with_sums
from pyg_mspipe.training.events import BatchTrained
from pyg_mspipe.training.single import padding_for

MODELS = ["tgn", "jodie", "dyrep", "apan", "tgat"]
SIZES = {"memory_dim": 8, "time_dim": 8, "embedding_dim": 8, "num_neighbors": 4, "eval_negatives": 3, "threads": 1}


@pytest.fixture(scope="module")
def stream():
    return synthetic(700, num_src=40, num_dst=25, msg_dim=4)


def trained(stream, finish, **config):
    """Losses, weights and memory of an epoch."""
    losses = []

    def listen(event):
        if isinstance(event, BatchTrained):
            losses.append(event.loss)

    config = TrainConfig(batch_size=20, epochs=1, device="cpu", **SIZES | config)
    trainer = Trainer(stream, config, listeners=[listen])
    train = trainer._job.train
    train.finish = finish(train)
    if config.staleness != "sequential":
        train.forwards = config.prefetch + 2
    trainer.fit()
    state = {**trainer.objective.state_dict(), **trainer.model.state.save()}
    return losses, {name: x for name, x in state.items() if isinstance(x, torch.Tensor)}


def close(one, other):
    """The same but for rounding, which Adam makes a tenth of a step where a gradient is next to nothing."""
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    for name, x in one[1].items():
        torch.testing.assert_close(x, other[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
@pytest.mark.parametrize("model", MODELS)
def test_padded_batches_train_as_they_do_without(stream, model, cut_off):
    config = {"model": model, "cut_off": cut_off, "dropout": 0.0, "staleness": "sequential", "lr": 1e-4}
    close(trained(stream, padding_for, **config), trained(stream, lambda _: None, **config))


@pytest.mark.parametrize(("model", "layers"), [*((model, 1) for model in MODELS), ("tgn", 2)])
def test_exact_equals_sequential_on_padded_batches_bit_for_bit(stream, model, layers):
    config = {"model": model, "layers": layers}
    sequential = trained(stream, padding_for, staleness="sequential", **config)
    exact = trained(stream, padding_for, staleness="exact", overlap="always", **config)
    assert exact[0] == sequential[0]
    assert all(torch.equal(x, exact[1][name]) for name, x in sequential[1].items())


@pytest.mark.parametrize("staleness", [2, "exact"])
@pytest.mark.parametrize("mitigation", ["none", "predictive"])
def test_stale_rows_are_planned_as_without(stream, staleness, mitigation):
    config = {"staleness": str(staleness), "overlap": "never", "mitigation": mitigation, "dropout": 0.0, "lr": 1e-4}
    close(trained(stream, padding_for, **config), trained(stream, lambda _: None, **config))


def test_sums_that_were_found_ahead_change_no_gradient(stream):
    config = {"staleness": "sequential", "layers": 2}
    plain, summed = (trained(stream, lambda _, f=f: f, **config) for f in (None, with_sums))
    assert plain[0] == summed[0]


def drawn(stream, model="apan"):
    trainer = Trainer(stream, TrainConfig(batch_size=20, model=model, device="cpu", **SIZES))
    batches = trainer._job.train
    return batches, [batches.draw(batches.events_of(i), 0, i) for i in range(len(batches) - 1)]


def test_there_are_four_sizes_at_most_and_every_batch_looked_at_fits(stream):
    _, each = drawn(stream)
    padding = Padding.of(each)
    assert 1 <= len(padding.sizes) <= 4
    for batch in each:
        padded = padding(batch)
        assert padded.unpadded == size_of(batch)
        assert size_of(padded) == padded.padded
        assert padded.padded in padding.sizes


def test_batches_of_a_size_have_the_shapes_of_one_another(stream):
    _, each = drawn(stream)
    padding = Padding.of(each)
    shapes = {}
    for batch in map(padding, each):
        shapes.setdefault(batch.padded, set()).add(tuple(tuple(x.shape) for x in tensors_of(batch)))
    assert all(len(found) == 1 for found in shapes.values())


def test_a_batch_larger_than_all_keeps_its_size(stream):
    _, each = drawn(stream)
    small = Padding([replace(size_of(each[0]), nodes=1)])
    batch = small(each[1])
    assert batch.padded is None
    assert torch.equal(batch.n_id, each[1].n_id)
    assert batch.sample.seed_sums is not None


@pytest.mark.parametrize("model", ["tgn", "apan"])
def test_what_batches_before_write_is_found_ahead(stream, model):
    batches, _ = drawn(stream, model)
    batches.forwards = 3
    for index in range(len(batches)):
        plan = batches.draw(batches.events_of(index), 0, index).plan
        before = [batches.events_of(i) for i in range(max(index - 3, 0), index)]
        assert sorted(plan.met) == [events.stop for events in before]
        for events, (name, read) in itertools.product(before, plan.reads.items()):
            part = slice(events.start, events.stop)
            n_id = torch.cat([stream.src[part], stream.dst[part]]).unique()
            for own, other in zip(plan.met[events.stop][name], find(read.n_id, n_id), strict=True):
                assert torch.equal(own, other)


def test_a_stream_may_bring_negatives_of_its_own(stream):
    negatives = NegativeSampler.from_destinations(stream.dst, seed=3, num=2)
    config = TrainConfig(batch_size=20, staleness="sequential", epochs=1, device="cpu", **SIZES)
    trainer = Trainer(stream, config, negatives=negatives)
    trainer._job.train.finish = padding_for(trainer._job.train)
    assert trainer.fit().epoch == 1
