"""A model and a task from files of the user's own, in every way of running them."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import Forked, torchrun
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.training import load_checkpoint, load_run

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL, TASK = EXAMPLES / "own_model.py", EXAMPLES / "own_task.py"
OWN = [f"--model={MODEL}:NeighbourMean", f"--task={TASK}:FirstFeature"]
SMALL = ["--memory-dim=8", "--time-dim=4", "--embedding-dim=8", "--num-neighbors=3", "--no-tensorboard", "--threads=1"]
RUN = [*OWN, *SMALL, "--batch-size=20", "--epochs=2", "--lr=0.01", "--lr-scaling=none", "--checkpoint-every=4"]
BARE = """
from pyg_mspipe.models import TemporalModel


class Bare(TemporalModel):
    num_hops = embedding_dim = 1

    def __init__(self, num_nodes, msg_dim):
        super().__init__()

    def forward(self, batch):
        return batch.sample.seed.view(-1, 1).float()
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A stream whose events' first feature is their nodes'."""
    rng = np.random.default_rng(0)
    src, dst = rng.integers(0, 20, (2, 600))
    of_node = rng.standard_normal(20)
    msg = np.stack([of_node[src] + of_node[dst], rng.standard_normal(600)], axis=1).astype(np.float32)
    path = tmp_path_factory.mktemp("own") / "events.npz"
    np.savez(path, src=src, dst=dst, t=np.arange(600), msg=msg)
    return path


def mspipe(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def numbers(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        line[name] for name in ("loss", "r2") for line in lines if line["kind"] in ("batch", "epoch") and name in line
    ]


@pytest.fixture(scope="module")
def plain(events, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    mspipe("train", events, "--out", folder, *RUN, "--staleness=sequential")
    return folder


def test_it_learns_and_says_so_in_its_own_words(events, plain):
    lines = [json.loads(line) for line in (plain / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "batch"]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert load_checkpoint(plain / "last.pt")["names"] == {"model": "NeighbourMean", "task": "FirstFeature"}
    assert "r2" in mspipe("evaluate", plain)
    assert set(json.loads((plain / "evaluation.json").read_text())["test"]) == {"r2"}


def test_exact_with_threads_gives_the_same_numbers(events, plain, tmp_path):
    mspipe("train", events, "--out", tmp_path, *RUN, "--staleness=exact", "--overlap=always")
    assert numbers(tmp_path) == numbers(plain)


@pytest.mark.parametrize("cut_off", ["batch", "event"])
def test_pygs_own_convolutions_embed(events, tmp_path, cut_off):
    model = f"--model={EXAMPLES / 'conv_model.py'}:ConvTGN"
    run = [*SMALL, model, "--layers=2", "--batch-size=20", "--epochs=2", "--cut-off", cut_off]
    found = []
    for staleness in ("sequential", "exact"):
        mspipe("train", events, "--out", tmp_path / staleness, *run, "--staleness", staleness, "--overlap=always")
        lines = map(json.loads, (tmp_path / staleness / "metrics.jsonl").read_text().splitlines())
        found.append([line["loss"] for line in lines if line["kind"] == "batch"])
    assert found[0] == found[1]
    assert load_run(tmp_path / "exact").embed(torch.arange(5)).shape == (5, 8)


@pytest.mark.parametrize("plan", ["2x1x1", "1x2x1"])
def test_two_processes_train_as_their_emulation_does(events, tmp_path, plan):
    one, other = tmp_path / "emulated", tmp_path / "processes"
    mspipe("train", events, "--out", one, *RUN, "--parallel", plan, "--emulate")
    torchrun(2, "-m", "pyg_mspipe", "train", str(events), "--out", str(other), *RUN, "--parallel", plan)
    assert numbers(other) == numbers(one)


def test_a_killed_run_goes_on_bit_for_bit(events, plain, tmp_path):
    slow = "import time, torch; step = torch.optim.Adam.step\n"
    slow += "def late(*a, **o): time.sleep(0.05); return step(*a, **o)\n"
    slow += "torch.optim.Adam.step = late\nfrom pyg_mspipe.cli import app\napp()"
    arguments = ["train", str(events), "--out", str(tmp_path / "run"), *RUN, "--staleness=sequential"]
    process = Forked("-c", slow, *arguments)
    while not (tmp_path / "run" / "last.pt").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert "resuming" in mspipe("resume", tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(plain)


def test_pairs_are_not_scored_by_a_task_that_knows_none(plain):
    run = load_run(plain)
    with pytest.raises(ValueError, match="task FirstFeature scores no pairs of nodes; take the embeddings"):
        run.score(run.trainer.data.src[:2], run.trainer.data.dst[:2])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model=tgm", "model 'tgm' is unknown; choose one of tgn, jodie, dyrep, apan, tgat, or give FILE.py:CLASS"),
        ("--task=nodes", "task 'nodes' is unknown; choose one of link, node, edge, property, or give FILE.py:CLASS"),
        ("--model=nowhere.py:Model", "nowhere.py is not a Python file; give FILE.py:CLASS"),
        (f"--model={MODEL}:Nobody", "Nobody has no such class; give the name of a subclass of TemporalModel"),
        (f"--task={TASK}:Fit", "Fit is no Task; give the name of a subclass of Task"),
        ("--model=broken.py:Model", "broken.py does not run: ZeroDivisionError: division by zero; mend it"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(events, tmp_path, monkeypatch, flag, message):
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("1 / 0\n")
    result = CliRunner().invoke(app, ["train", str(events), "--out", "run", flag])
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1
    assert not Path("run").exists()


def test_what_a_model_does_not_take_is_refused_where_it_is_needed(events, tmp_path):
    own = tmp_path / "bare.py"
    own.write_text(BARE)
    small = [f"--model={own}:Bare", *SMALL, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["train", str(events), *small, "--mitigation=predictive", "--staleness=2"])
    assert result.exit_code == 2, result.output
    assert "Bare takes no mitigation; add it to" in " ".join(result.output.split())
    result = CliRunner().invoke(app, ["train", str(events), *small, "--epochs=1"])
    assert result.exit_code == 0, "without a memory it trains: " + result.output
    static = [*RUN, "--static-dim=4", "--out", str(tmp_path / "static")]
    result = CliRunner().invoke(app, ["train", str(events), *static])
    assert result.exit_code == 2, result.output
    assert "model NeighbourMean takes no static node vectors; leave out" in result.output
