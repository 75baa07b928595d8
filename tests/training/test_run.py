import shutil

import pytest
import torch
from small_runs import emulated, read_log, small_config, small_stream

from pyg_mspipe.training import CheckpointError, Trainer, load_checkpoint, load_run


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    Trainer(data, small_config(), folder).fit()
    return folder


def memory_after(data, folder, parts):
    """The memory of a trainer that has evaluated some parts."""
    trainer = Trainer.resume(data, load_checkpoint(folder / "best.pt"), folder)
    for part in parts:
        trainer.evaluate(part)
    return trainer.model.memory.state.save()["memory"]


def test_the_memory_is_that_after_validation_and_test(data, folder):
    run = load_run(folder, data=data)
    assert torch.equal(run.trainer.model.memory.state.save()["memory"], memory_after(data, folder, ["val", "test"]))


def test_at_an_earlier_moment_it_has_seen_the_events_before_that_alone(data, folder):
    split = Trainer(data, small_config()).split
    run = load_run(folder, data=data, t=int(data.t[split.test.start]))
    assert torch.equal(run.trainer.model.memory.state.save()["memory"], memory_after(data, folder, ["val"]))
    early = load_run(folder, data=data.clone(), t=int(data.t[split.train.stop]))
    z = early.embed(torch.arange(80))
    early.trainer.data.msg[split.train.stop :] += 1
    assert torch.equal(early.embed(torch.arange(80)), z)
    with pytest.raises(ValueError, match=r"t=0 lies before the last training event, which is at \d+; give a later one"):
        load_run(folder, data=data, t=0)


def test_a_batchs_own_scores_are_those_of_its_pairs(data, folder):
    split = Trainer(data, small_config()).split
    first = split.test.start
    run = load_run(folder, data=data, t=int(data.t[first]))
    trainer = Trainer.resume(data, load_checkpoint(folder / "best.pt"), folder)
    trainer.evaluate("val")
    with torch.no_grad():
        batch = trainer.batches("test").read(0, 0)
        expected = trainer.task.logits(trainer.objective.embed(batch), batch)[0]
    batch = slice(first, first + len(expected))
    torch.testing.assert_close(run.score(data.src[batch], data.dst[batch]), expected)


def test_nodes_may_come_in_any_order_and_more_than_once(data, folder):
    run = load_run(folder, data=data)
    z = run.embed(torch.arange(80))
    assert torch.allclose(run.embed(torch.tensor([7, 3, 7])), z[[7, 3, 7]], atol=1e-6)
    assert not z.requires_grad
    one = run.score(torch.tensor([5]), torch.arange(40, 80))
    assert torch.allclose(one, run.score(torch.full((40,), 5), torch.arange(40, 80)), atol=1e-6)


def test_a_run_goes_on_from_its_last_checkpoint(data, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    progress = load_run(tmp_path / "run", data=data).resume(epochs=3)
    Trainer(data, small_config(epochs=3), tmp_path / "longer").fit()
    assert progress.epoch == 3
    assert read_log(tmp_path / "run")[1:] == read_log(tmp_path / "longer")[1:]


def test_a_run_of_many_trainers_is_put_to_use_and_goes_on_too(data, tmp_path):
    config = small_config(parallel="1x2x1", epochs=2)
    emulated(data, config, tmp_path / "run").fit()
    run = load_run(tmp_path / "run", data=data)
    assert run.embed(torch.tensor([0])).shape == (1, 8)
    assert run.resume(epochs=4).epoch == 4
    emulated(data, small_config(parallel="1x2x1", epochs=4), tmp_path / "longer").fit()
    assert read_log(tmp_path / "run")[1:] == read_log(tmp_path / "longer")[1:]


def test_a_run_whose_stream_nobody_named_needs_it(folder):
    with pytest.raises(CheckpointError, match=r"not started by mspipe train; .* load_run\(folder, data=...\)"):
        load_run(folder)
