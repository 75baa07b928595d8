"""Runs with static node memory, and the file that they keep it in."""

import shutil

import pytest
import torch
from small_runs import contents, losses, read_log, resume, same, small_config, small_stream
from torch_geometric.data import TemporalData

from pyg_mspipe.training import CheckpointError, Trainer, load_checkpoint, save_checkpoint

STATIC = {"static_dim": 6, "static_epochs": 2}


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("static") / "whole"
    Trainer(data, small_config(**STATIC), folder).fit()
    return folder


def faithful_stream():
    """Sources that return to one destination each, in random order."""
    src = torch.randint(0, 40, (2000,), generator=torch.Generator().manual_seed(0))
    return TemporalData(src=src, dst=40 + (7 * src) % 40, t=torch.arange(2000), msg=torch.zeros(2000, 0))


def test_with_it_all_other_weights_start_the_same(data):
    without, trainer = Trainer(data, small_config()), Trainer(data, small_config(**STATIC))
    weights = trainer.objective.state_dict()
    assert weights.pop("model.static_memory.lin.weight").shape == (8, 6)
    assert same(dict(without.objective.state_dict()), dict(weights))


def test_vectors_of_zeros_change_no_embedding(data):
    scores = []
    for settings in ({}, STATIC):
        trainer = Trainer(data, small_config(**settings))
        trainer.model.eval()
        batch = trainer.batches("train").read(0, 5)
        scores.append(trainer.model(batch))
    assert torch.equal(*scores)
    trainer.model.static_memory.table[0] = 1.0
    touched = (batch.sample.hops[0].target[batch.sample.seed] == batch.sample.n_id.tolist().index(0)).nonzero()
    changed = (trainer.model(batch) != scores[0]).any(dim=1)
    assert bool(changed[touched].all())
    assert not bool(changed.all())


def test_the_projection_is_trained_and_the_vectors_are_not(data, whole):
    start = Trainer(data, small_config(**STATIC)).model.static_memory.lin.weight
    trained = load_checkpoint(whole / "last.pt")["model"]["static_memory.lin.weight"]
    assert not torch.equal(trained, start)
    assert torch.equal(resume(data, whole).model.static_memory.table, load_checkpoint(whole / "static.pt")["vectors"])


def test_vectors_are_in_one_file_and_not_in_checkpoints(whole):
    assert sorted(path.name for path in whole.iterdir()) == ["best.pt", "last.pt", "metrics.jsonl", "static.pt"]
    for name in ("last.pt", "best.pt"):
        assert "static_memory.table" not in load_checkpoint(whole / name)["model"]


def test_vectors_that_are_found_give_the_losses_of_vectors_that_are_trained(data, whole, tmp_path):
    shutil.copy(whole / "static.pt", tmp_path)
    written = (tmp_path / "static.pt").stat().st_mtime_ns
    Trainer(data, small_config(**STATIC), tmp_path).fit()
    assert (tmp_path / "static.pt").stat().st_mtime_ns == written
    assert read_log(tmp_path) == read_log(whole)
    assert same(contents(tmp_path), contents(whole))


def test_no_folder_gives_the_same_run(data, whole):
    trainer = Trainer(data, small_config(**STATIC))
    assert trainer.fit().best == load_checkpoint(whole / "last.pt")["progress"]["best"]
    assert trainer.test(load_checkpoint(whole / "best.pt"))["val"].ap == trainer.progress.best


def test_a_run_that_begins_does_not_take_vectors_of_other_events_settings_or_a_damaged_file(data, whole, tmp_path):
    expected = (whole / "static.pt").read_bytes()
    path = tmp_path / "static.pt"
    for number, change in enumerate(({"num_events": 1}, {"stream": "another"}, {"seed": 9}, {"strategy": "x"}, None)):
        content = load_checkpoint(whole / "static.pt")
        if change is None:
            path.write_bytes(expected[:-100])
        else:
            save_checkpoint(
                path, content | {"vectors": content["vectors"] + 1, "made_from": content["made_from"] | change}
            )
        Trainer(data, small_config(**STATIC), tmp_path).fit(replace=False)
        assert same(load_checkpoint(path), load_checkpoint(whole / "static.pt")), number
        for name in ("last.pt", "best.pt"):
            (tmp_path / name).unlink()


def test_a_run_that_replaces_another_replaces_its_vectors(data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "with")
    shutil.copytree(whole, tmp_path / "without")
    Trainer(data, small_config(**STATIC, seed=1), tmp_path / "with").fit(replace=True)
    content = load_checkpoint(tmp_path / "with" / "static.pt")
    assert content["made_from"]["seed"] == 1
    assert not torch.equal(content["vectors"], load_checkpoint(whole / "static.pt")["vectors"])
    Trainer(data, small_config(), tmp_path / "without").fit(replace=True)
    assert not (tmp_path / "without" / "static.pt").exists()


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_checkpoint_without_its_vectors_is_refused(data, whole, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    checkpoint = load_checkpoint(folder / name)

    def refused(message, where=folder):
        with pytest.raises(CheckpointError, match=message):
            Trainer.resume(data, checkpoint, where)

    content = load_checkpoint(folder / "static.pt")
    (folder / "static.pt").unlink()
    refused(r"static\.pt: no such file; .*; put the file back, or train again")
    refused(r"static\.pt beside the checkpoint; give that folder", where=None)
    for other in (content["vectors"].roll(1), content["vectors"][:, :5], None):
        save_checkpoint(folder / "static.pt", content | {"vectors": other})
        refused(r"static\.pt: not the static node vectors .*; put the run's own file back, or train again")
    (folder / "static.pt").write_bytes((whole / "static.pt").read_bytes()[:-100])
    refused(r"static\.pt: not a checkpoint of pyg_mspipe, or damaged")


def test_it_tells_links_that_a_large_batch_hides_from_dynamic_memory():
    sizes = {"epochs": 5, "batch_size": 350, "lr": 3e-3, "embedding_dim": 16, "time_init": "log"}
    ap = [Trainer(faithful_stream(), small_config(**sizes, static_dim=static_dim)).fit().best for static_dim in (0, 16)]
    assert ap[1] > ap[0] + 0.05


def test_losses_are_other_than_without_it(data, whole, tmp_path):
    Trainer(data, small_config(), tmp_path).fit()
    assert losses(tmp_path) != losses(whole)
