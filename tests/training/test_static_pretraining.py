import signal
import threading

import pytest
import torch
from small_runs import small_config, small_stream

from pyg_mspipe.data import split_stream
from pyg_mspipe.distributed.random_state import random_state
from pyg_mspipe.tasks import DivergedError
from pyg_mspipe.training import ConfigError, Interrupted, TrainConfig, Trainer
from pyg_mspipe.training.static_pretraining import pretrain

NUM_NODES = 80
CPU = torch.device("cpu")


def static_config(**settings):
    return small_config(**{"static_dim": 6, "static_epochs": 2} | settings)


def training_events(data):
    return data[: split_stream(data).train.stop]


def vectors_of_a_run(data, config):
    """The vectors that a trainer makes of the whole stream."""
    trainer = Trainer(data, config)
    trainer.fit()
    return trainer.model.static_memory.table


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": "uniform", "layers": 2, "num_neighbors": 3}, {"cut_off": "event"}, {"negatives": "nodes"}],
    ids=["recent", "uniform, two layers", "event cut-off", "negatives from all nodes"],
)
def test_training_events_alone_decide_the_vectors(settings):
    data, config = small_stream(), static_config(epochs=1, **settings)
    first = split_stream(data).train.stop
    other = data.clone()
    # The same nodes and times, as the split and the number of nodes are given by them.
    other.src[first:], other.dst[first:] = other.src[first:].roll(1), other.dst[first:].roll(2)
    other.msg[first:] = 7.0
    vectors = vectors_of_a_run(data, config)
    assert bool(vectors.any())
    assert torch.equal(vectors_of_a_run(other, config), vectors)
    other.msg[first // 2] += 1.0
    assert not torch.equal(vectors_of_a_run(other, config), vectors)


def test_the_seed_decides_the_vectors_whatever_the_state_of_torchs_random_numbers():
    data = training_events(small_stream())
    vectors = pretrain(data, NUM_NODES, static_config())
    torch.rand(3)
    assert torch.equal(pretrain(data, NUM_NODES, static_config()), vectors)
    assert not torch.equal(pretrain(data, NUM_NODES, static_config(seed=1)), vectors)


def test_neither_the_batch_size_nor_the_epochs_of_the_run_change_the_vectors():
    data = training_events(small_stream())
    one, other = static_config(), static_config(batch_size=7, epochs=9, memory_dim=3)
    assert torch.equal(pretrain(data, NUM_NODES, one), pretrain(data, NUM_NODES, other))


def test_torchs_random_state_is_left_as_it_was():
    before = random_state(CPU)["rng"]
    pretrain(training_events(small_stream()), NUM_NODES, static_config())
    assert torch.equal(random_state(CPU)["rng"], before)


def test_nodes_without_a_training_event_get_zeros_and_all_others_do_not():
    data = small_stream()
    vectors = pretrain(training_events(data), NUM_NODES + 5, static_config(negatives="nodes"))
    train = training_events(data)
    known = torch.cat([train.src, train.dst]).unique()
    assert known.numel() < NUM_NODES
    assert torch.equal(vectors.any(dim=1).nonzero().view(-1), known)


def test_events_without_messages_train(recwarn):
    vectors = pretrain(training_events(small_stream(msg_dim=0)), NUM_NODES, static_config())
    assert bool(vectors.isfinite().all())
    assert not recwarn


def test_ctrl_c_ends_it_at_once():
    # Long enough that only an interrupt ends it.
    config = static_config(static_epochs=10**6)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(Interrupted):
        pretrain(training_events(small_stream()), NUM_NODES, config)
    timer.join()


def test_vectors_that_diverge_are_refused_with_how_to_mend_it():
    with pytest.raises(DivergedError, match=r"static memory, epoch 1: .*; lower lr, which is 1e\+37, or scale msg"):
        pretrain(training_events(small_stream()), NUM_NODES, static_config(lr=1e37))


def test_a_learning_rate_of_0_is_refused():
    with pytest.raises(ConfigError, match="static_dim needs an lr above 0"):
        TrainConfig(static_dim=6, lr=0)
