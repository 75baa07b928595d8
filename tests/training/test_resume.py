import shutil
from dataclasses import asdict

import pytest
import torch
from small_runs import contents, losses, photograph, read_log, resume, same, small_config, small_stream

from pyg_mspipe.training import CheckpointError, Saved, Trainer, load_checkpoint
from pyg_mspipe.training.run_folder import LAST

# What the last checkpoint of a run of two epochs, eleven batches each, was successively written for.
MOMENTS = [f"epoch {epoch} {when}" for epoch in (1, 2) for when in ("batch 4", "batch 8", "to validate", "done")]
VARIANTS = {
    "dropout": {"dropout": 0.5},
    "two layers": {"layers": 2, "num_neighbors": 3},
    "uniform": {"strategy": "uniform"},
    "event cut-off": {"cut_off": "event"},
    "bf16": {"precision": "bf16"},
    "negatives from all nodes": {"negatives": "nodes"},
    "one batch": {"batch_size": 1000},
    "static memory": {"static_dim": 6, "static_epochs": 2},
    "stopped early": {"lr": 0.0, "patience": 1, "epochs": 4},
}


def die(event):
    """Listens to a trainer, and ends it as soon as it has written a last checkpoint."""
    if isinstance(event, Saved) and event.path.name == LAST:
        raise RuntimeError("dead")


def photographed_run(data, config, parent):
    Trainer(data, config, parent / "whole", listeners=[photograph]).fit()
    return parent / "whole"


@pytest.fixture(scope="module")
def data():
    return small_stream()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    return photographed_run(data, small_config(), tmp_path_factory.mktemp("resume"))


def test_a_checkpoint_is_written_at_each_moment(whole):
    found = [load_checkpoint(whole.parent / f"at-{i}" / LAST)["progress"] for i in range(len(MOMENTS))]
    places = [(progress["epoch"], progress["batch"]) for progress in found]
    assert places == [(0, 4), (0, 8), (0, 11), (1, 0), (1, 4), (1, 8), (1, 11), (2, 0)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_resumed_at_any_moment_equals_the_whole_run(data, whole, tmp_path, moment):
    folder = tmp_path / "killed"
    shutil.copytree(whole.parent / f"at-{MOMENTS.index(moment)}", folder)
    # What came after the checkpoint is lost half written.
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "batch", "step": 99, "loss": 0.0}\n{"kind": "ba')
    torch.rand(3)
    resume(data, folder).fit()
    assert read_log(folder) == read_log(whole)
    assert same(contents(folder), contents(whole))


@pytest.mark.parametrize("settings", list(VARIANTS.values()), ids=VARIANTS)
def test_every_kind_of_run_resumes_bit_for_bit(data, tmp_path, settings):
    whole = photographed_run(data, small_config(**settings), tmp_path)
    taken = sorted(tmp_path.glob("at-*"), key=lambda path: int(path.name[3:]))
    for folder in taken[len(taken) // 2 :: 2]:
        resume(data, folder).fit()
        assert read_log(folder) == read_log(whole)
        assert same(contents(folder), contents(whole))


@pytest.mark.parametrize("options", [{"msg_dim": 0}, {"bipartite": 0}], ids=["no messages", "nodes in both roles"])
def test_every_kind_of_stream_resumes_bit_for_bit(tmp_path, options):
    data = small_stream(**options)
    whole = photographed_run(data, small_config(), tmp_path)
    resume(data, tmp_path / "at-4").fit()
    assert read_log(tmp_path / "at-4") == read_log(whole)
    assert same(contents(tmp_path / "at-4"), contents(whole))


def test_a_run_resumes_again_and_again(data, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole.parent / "at-0", folder)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="dead"):
            Trainer.resume(data, load_checkpoint(folder / LAST), folder, listeners=[die]).fit()
    resume(data, folder).fit()
    assert read_log(folder) == read_log(whole)
    assert same(contents(folder), contents(whole))


def test_more_epochs_after_the_end_equal_those_of_a_longer_run(data, whole, tmp_path):
    Trainer(data, small_config(epochs=3), tmp_path / "longer").fit()
    shutil.copytree(whole, tmp_path / "resumed")
    checkpoint = load_checkpoint(tmp_path / "resumed" / LAST)
    checkpoint["config"]["epochs"] = 3
    Trainer.resume(data, checkpoint, tmp_path / "resumed").fit()
    assert read_log(tmp_path / "resumed")[1:] == read_log(tmp_path / "longer")[1:]
    resumed, longer = contents(tmp_path / "resumed"), contents(tmp_path / "longer")
    # The best epoch may be one from before, when two epochs were planned.
    assert resumed["best.pt"].pop("config") in (asdict(small_config(epochs=2)), longer["best.pt"].pop("config"))
    assert same(resumed, longer)


def test_checkpoints_do_not_change_the_run(data, whole, tmp_path):
    Trainer(data, small_config(checkpoint_every=0)).fit()
    Trainer(data, small_config(checkpoint_every=0), tmp_path).fit()
    assert losses(tmp_path) == losses(whole)


def test_leftovers_of_a_kill_are_no_checkpoints_and_are_removed(data, whole, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(whole.parent / "at-5", folder)
    (folder / ".last.pt.4711.part").write_bytes((folder / LAST).read_bytes()[:100])
    (folder / ".best.pt.4711.part").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    resume(data, folder).fit()
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "last.pt", "metrics.jsonl", "notes.txt"]
    assert losses(folder) == losses(whole)


def test_another_stream_is_refused(data, whole):
    for other in (small_stream(seed=1), small_stream(msg_dim=3), small_stream(num_events=599)):
        with pytest.raises(CheckpointError, match=r"another stream .* give the stream that it was trained on"):
            Trainer.resume(other, load_checkpoint(whole / LAST), None)


@pytest.mark.parametrize("name", ["src", "dst", "t", "msg"])
def test_a_stream_with_one_value_changed_is_another_stream(data, whole, name):
    other = data.clone()
    other[name].view(-1)[-1] += 1
    with pytest.raises(CheckpointError, match="another stream"):
        Trainer.resume(other, load_checkpoint(whole / LAST), None)


@pytest.mark.parametrize("what", ["model", "task"])
def test_another_model_or_task_is_refused(data, whole, what):
    checkpoint = load_checkpoint(whole / LAST)
    checkpoint["names"][what] = "Other"
    with pytest.raises(CheckpointError, match=f"of {what} Other, this run has .*; give the {what} that it was trained"):
        Trainer.resume(data, checkpoint, None)


def test_an_unsorted_copy_of_the_stream_is_refused_before_the_checkpoint_is_read(data, whole):
    with pytest.raises(ValueError, match="t decreases"):
        Trainer.resume(data[torch.arange(data.num_events).flip(0)], load_checkpoint(whole / LAST), None)


def test_a_loaded_checkpoint_serves_more_than_one_run(data, whole, tmp_path):
    shutil.copytree(whole.parent / "at-1", tmp_path / "one")
    shutil.copytree(whole.parent / "at-1", tmp_path / "two")
    checkpoint = load_checkpoint(tmp_path / "one" / LAST)
    for folder in ("one", "two"):
        Trainer.resume(data, checkpoint, tmp_path / folder).fit()
        assert read_log(tmp_path / folder) == read_log(whole)


def test_a_checkpoint_is_tested_with_its_own_weights_and_memory(data, whole):
    trainer = Trainer(data, small_config())
    checkpoint = load_checkpoint(whole / "best.pt")
    first = trainer.test(checkpoint)
    trainer.fit()
    assert trainer.test(checkpoint) == first
    best = max((line for line in read_log(whole) if line["kind"] == "epoch"), key=lambda line: line["ap"])
    assert first["val"].ap == best["ap"]
