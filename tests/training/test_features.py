import shutil

import pytest
import torch
from small_runs import read_log, small_config, small_stream

from pyg_mspipe import StreamError
from pyg_mspipe.data import MappedFeatures, TensorFeatures, write_features
from pyg_mspipe.training import CheckpointError, Trainer, load_checkpoint, load_run
from pyg_mspipe.training.features import features_digest

NODES = torch.randn(80, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def in_memory(data, tmp_path_factory):
    """A run whose features are in memory, of events and of nodes."""
    folder = tmp_path_factory.mktemp("memory") / "run"
    Trainer(data, small_config(), folder, **stores(data)).fit()
    return folder


def stores(data):
    return {"features": TensorFeatures(data.msg), "node_features": TensorFeatures(NODES)}


def test_the_digest_of_rows_is_the_same_in_memory_and_in_a_file(tmp_path):
    x = torch.randn(1000, 3)
    write_features(tmp_path / "x.npy", x)
    digest = features_digest(TensorFeatures(x))
    assert features_digest(MappedFeatures(tmp_path / "x.npy")) == digest
    others = {x[:999], x[:, :2], x.half(), x.roll(1, 0)}
    one_number = x.clone()
    one_number[501, 1] += 1
    others.add(one_number)
    assert digest not in {features_digest(TensorFeatures(other.contiguous())) for other in others}
    assert len(features_digest(TensorFeatures(x[:1]))) == len(features_digest(TensorFeatures(x.bfloat16()))) == 32


def test_a_digest_of_many_features_reads_few_rows(monkeypatch):
    monkeypatch.setattr("pyg_mspipe.training.features._DIGEST_BYTES", 399_999)

    class Counted(TensorFeatures):
        asked = 0

        def read(self, ids):
            self.asked += len(ids)
            return super().read(ids)

    store = Counted(torch.zeros(100_000, 1))
    features_digest(store)
    assert 100 < store.asked < 1000


def test_a_run_without_its_own_messages_does_not_depend_on_them(data, in_memory, tmp_path):
    other = data.clone()
    other.msg = data.msg + 1
    Trainer(other, small_config(), tmp_path / "run", **stores(data)).fit()
    assert read_log(tmp_path / "run") == read_log(in_memory)


def test_features_in_memory_are_given_again(data, in_memory, tmp_path):
    with pytest.raises(CheckpointError, match=r"the run's event features were in memory; .* and give features=\.\.\."):
        load_run(in_memory, data=data)
    shutil.copytree(in_memory, tmp_path / "run")
    run = load_run(tmp_path / "run", data=data, **stores(data))
    assert run.embed(torch.arange(5)).shape == (5, 8)
    assert run.resume(epochs=3).epoch == 3
    Trainer(data, small_config(epochs=3), tmp_path / "longer", **stores(data)).fit()
    assert read_log(tmp_path / "run")[1:] == read_log(tmp_path / "longer")[1:]


def test_a_file_with_the_same_rows_stands_for_memory(data, in_memory, tmp_path):
    write_features(tmp_path / "nodes.npy", NODES)
    files = stores(data) | {"node_features": MappedFeatures(tmp_path / "nodes.npy")}
    one, other = (load_run(in_memory, data=data, **each) for each in (stores(data), files))
    assert torch.equal(one.embed(torch.arange(5)), other.embed(torch.arange(5)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_features": None}, "the checkpoint was trained with node features; give those"),
        ({"node_features": TensorFeatures(NODES + 1)}, "the checkpoint was trained with other node features than"),
    ],
)
def test_a_checkpoint_refuses_other_features(data, in_memory, change, message):
    trainer = Trainer(data, small_config(), **stores(data) | change)
    with pytest.raises(CheckpointError, match=message):
        trainer.load(load_checkpoint(in_memory / "last.pt"))


def test_a_checkpoint_without_features_refuses_a_run_that_has_some(data, tmp_path):
    Trainer(data, small_config(epochs=1), tmp_path / "run").fit()
    with pytest.raises(CheckpointError, match="the checkpoint was trained without node features; leave them out"):
        load_run(tmp_path / "run", data=data, node_features=TensorFeatures(NODES))


def test_features_of_other_events_or_nodes_are_refused(data):
    with pytest.raises(StreamError, match="in memory: 599 rows of event features for 600 events; give one row for"):
        Trainer(data, small_config(), features=TensorFeatures(data.msg[1:]))
    with pytest.raises(StreamError, match="in memory: 79 rows of node features for 80 nodes; give one row for each"):
        Trainer(data, small_config(), node_features=TensorFeatures(NODES[1:]))
