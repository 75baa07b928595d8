"""Tasks on labels, and models, by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyg_mspipe import synthetic
from pyg_mspipe.training import load_checkpoint

SMALL = ["--memory-dim=4", "--time-dim=4", "--embedding-dim=4", "--num-neighbors=2", "--no-tensorboard", "--epochs=1"]


@pytest.fixture
def events():
    """A file of events with labels, in the folder that the command runs in."""
    data = synthetic(600, num_src=40, num_dst=40, msg_dim=2)
    y = (np.arange(600) % 7 == 0).astype(float)
    y[::5] = np.nan
    np.savez("events.npz", **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")}, y=y)
    return "events.npz"


@pytest.mark.parametrize("task", ["node", "edge"])
def test_labels_of_the_stream_are_told_and_evaluated(mspipe, events, task):
    result = mspipe("train", events, *SMALL, "--task", task, "--class-weights=balanced", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "best validation AUC" in result.stdout
    result = mspipe("evaluate", "run")
    assert result.exit_code == 0, result.stderr
    assert "negatives" not in result.stdout
    assert all(heading in result.stdout for heading in ("labels", "AUC", "AP"))
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert set(evaluation) == {"epoch", "cut_off", "val", "test"}
    assert evaluation["val"]["num_labels"] == 72
    assert evaluation["val"]["f1_micro"] is None


def test_a_file_of_labels_may_be_moved_and_those_too_late_are_left_out(mspipe, events):
    t = np.load(events)["t"]
    node, moment = np.arange(400) % 40, np.linspace(0, t.max() * 1.01, 400).astype(int)
    y = np.random.default_rng(0).dirichlet(np.ones(3), 400)
    np.savez("shares.npz", node=node, t=moment, y=y)
    result = mspipe("train", events, *SMALL, "--task=property", "--labels=shares.npz", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "labels after the last event are left out: 4" in result.stdout
    assert "best validation NDCG@10" in result.stdout
    assert load_checkpoint(Path("run/best.pt"))["config"]["labels"] == str(Path("shares.npz").resolve())
    Path("shares.npz").rename("elsewhere.npz")
    result = mspipe("evaluate", "run")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "shares.npz does not exist" in result.stderr
    assert mspipe("evaluate", "run", "--labels", "elsewhere.npz").exit_code == 0
    assert mspipe("resume", "run", "--labels", "elsewhere.npz", "--epochs", "2").exit_code == 0
    np.savez("elsewhere.npz", node=node, t=moment, y=y[::-1])
    result = mspipe("evaluate", "run", "--labels", "elsewhere.npz")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "another stream" in result.stderr


def test_a_head_is_trained_on_what_another_run_embeds(mspipe, events):
    assert mspipe("train", events, *SMALL, "--model=jodie", "--out", "links").exit_code == 0
    sizes = ["--no-tensorboard", "--epochs=1"]
    result = mspipe("train", events, *sizes, "--task=edge", "--embeddings=links", "--out", "run")
    assert result.exit_code == 0, result.stderr
    config = load_checkpoint(Path("run/best.pt"))["config"]
    assert (config["model"], config["memory_dim"]) == ("jodie", 4)
    assert config["embeddings"] == str(Path("links").resolve())
    assert mspipe("evaluate", "run").exit_code == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--task=property"], "task property needs labels with a number for each of at least two classes"),
        (["--task=node", "--labels=none.csv"], "none.csv does not exist"),
        (["--task=edge", "--labels=events.npz"], "task edge is about events, and the labels of a file are of nodes"),
        (["--task=link", "--labels=events.npz"], "task link takes no labels"),
        (["--task=link", "--class-weights=balanced"], "task LinkPrediction takes no class_weights"),
        (["--task=node", "--embeddings=nowhere"], "nowhere does not exist"),
        (["--task=node", "--val-ratio=0.002"], "all labels of the validation events are"),
        (["--model=tgat", "--static-dim=4"], "model TGAT takes no static node vectors"),
        (["--model=tgat", "--mitigation=similarity", "--staleness=2"], "model tgat takes no mitigation"),
        (["--model=tgat", "--layers=0"], "layers is 0"),
    ],
)
def test_what_does_not_go_together_gets_one_line_and_nothing_is_written(mspipe, events, flags, said):
    before = sorted(Path().iterdir())
    result = mspipe("train", events, *SMALL, *flags, "--out", "run")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert said in result.stderr
    assert sorted(Path().iterdir()) == before


def test_a_setting_that_the_model_does_not_have_is_named(mspipe, events):
    result = mspipe("train", events, *SMALL, "--model=jodie", "--layers=2", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "model jodie has no embedding_dim, layers, num_neighbors: what was given is passed over" in result.stdout
    assert "has no" not in mspipe("train", events, *SMALL, "--out", "other").stdout
