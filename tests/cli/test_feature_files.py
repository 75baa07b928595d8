"""Features from files, of events and of nodes, in every way of running a model."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from processes import Forked, torchrun
from small_commands import SMALL
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.training import load_checkpoint, load_run

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"
RUN = [*SMALL, "--batch-size=20", "--epochs=2", "--lr-scaling=none", "--checkpoint-every=4", "--threads=1"]
SEQUENTIAL, EXACT = "--staleness=sequential", ["--staleness=exact", "--overlap=always"]
EVENTS, NODES = 600, 30


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a stream that has messages, the same without, and features of events and nodes."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("files")
    src, dst = rng.integers(0, NODES, (2, EVENTS))
    src[0] = NODES - 1
    stream = {"src": src, "dst": dst, "t": np.arange(EVENTS) * 60}
    msg = rng.standard_normal((EVENTS, 3)).astype(np.float32)
    np.savez(folder / "whole.npz", msg=msg, **stream)
    np.savez(folder / "bare.npz", **stream)
    np.savez(folder / "other.npz", msg=msg[:, :2] + 1, **stream)
    np.save(folder / "msg.npy", msg)
    np.save(folder / "nodes.npy", rng.standard_normal((NODES + 4, 5)).astype(np.float32))
    return folder


@pytest.fixture
def both(files):
    """The flags that give features of events and of nodes."""
    return [f"--features={files / 'msg.npy'}", f"--node-features={files / 'nodes.npy'}"]


def mspipe(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1, result.output
    return result.stderr


def numbers(run):
    """The losses, batch by batch, and the validation scores."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for name in ("loss", "ap", "mrr") for line in lines if name in line and line["kind"] != "part"]


def train_in_processes(stream, run, *flags):
    torchrun(2, "-m", "pyg_mspipe", "train", str(stream), "--out", str(run), *RUN, *flags)


def train_and_kill(stream, run, *flags):
    """Trains until the first checkpoint is there."""
    slow = "import time, torch; step = torch.optim.Adam.step\n"
    slow += "def late(*a, **o): time.sleep(0.05); return step(*a, **o)\n"
    slow += "torch.optim.Adam.step = late\nfrom pyg_mspipe.cli import app\napp()"
    arguments = ["train", str(stream), "--out", str(run), *RUN, *flags]
    process = Forked("-c", slow, *arguments)
    while not (run / "last.pt").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.02)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def plain(files, tmp_path_factory):
    """A run that holds its messages in memory."""
    run = tmp_path_factory.mktemp("plain") / "run"
    mspipe("train", files / "whole.npz", "--out", run, *RUN, SEQUENTIAL)
    return run


@pytest.fixture(scope="module")
def with_nodes(files, tmp_path_factory):
    """A run with features of events and nodes."""
    run = tmp_path_factory.mktemp("nodes") / "run"
    flags = [f"--features={files / 'msg.npy'}", f"--node-features={files / 'nodes.npy'}"]
    mspipe("train", files / "bare.npz", "--out", run, *RUN, SEQUENTIAL, *flags)
    return run


@pytest.mark.parametrize("stream", ["bare.npz", "other.npz"])
@pytest.mark.parametrize("mode", [[SEQUENTIAL], EXACT], ids=["sequential", "exact"])
def test_features_from_a_file_give_the_losses_of_messages_whatever_the_stream_has(files, plain, tmp_path, stream, mode):
    mspipe("train", files / stream, "--out", tmp_path / "run", *RUN, *mode, "--features", files / "msg.npy")
    assert numbers(tmp_path / "run") == numbers(plain)


@pytest.mark.parametrize("plan", ["2x1x1", "1x1x2"])
def test_a_plan_gives_the_same_losses_from_memory_and_from_a_file(files, tmp_path, plan):
    flags = [*RUN, "--parallel", plan, "--emulate"]
    mspipe("train", files / "whole.npz", "--out", tmp_path / "memory", *flags)
    mspipe("train", files / "bare.npz", "--out", tmp_path / "file", *flags, "--features", files / "msg.npy")
    assert numbers(tmp_path / "file") == numbers(tmp_path / "memory")


@pytest.mark.parametrize("plan", ["2x1x1", "1x1x2"])
def test_two_processes_read_the_files_as_their_emulation_does(files, both, tmp_path, plan):
    flags = ["--parallel", plan, *both]
    mspipe("train", files / "bare.npz", "--out", tmp_path / "emulated", *RUN, *flags, "--emulate")
    train_in_processes(files / "bare.npz", tmp_path / "processes", *flags)
    assert numbers(tmp_path / "processes") == numbers(tmp_path / "emulated")


def test_static_node_vectors_are_trained_on_the_features(files, tmp_path):
    static = [*RUN, SEQUENTIAL, "--static-dim=4", "--static-epochs=1"]
    mspipe("train", files / "whole.npz", "--out", tmp_path / "memory", *static)
    mspipe("train", files / "bare.npz", "--out", tmp_path / "file", *static, "--features", files / "msg.npy")
    assert numbers(tmp_path / "file") == numbers(tmp_path / "memory")
    # What a run has left that ended before its first batch is not taken over for other features.
    Path("left").mkdir()
    shutil.copy(tmp_path / "file" / "static.pt", "left")
    for run in ("left", "new"):
        mspipe("train", files / "bare.npz", "--out", run, *static, "--node-features", files / "nodes.npy")
    assert numbers(tmp_path / "left") == numbers(tmp_path / "new")


def test_features_of_nodes_change_the_losses_and_exact_gives_those_of_sequential(
    files, both, plain, with_nodes, tmp_path
):
    mspipe("train", files / "bare.npz", "--out", tmp_path / "exact", *RUN, *EXACT, *both)
    assert len(numbers(with_nodes)) == len(numbers(plain))
    assert set(numbers(with_nodes)).isdisjoint(numbers(plain))
    assert numbers(tmp_path / "exact") == numbers(with_nodes)


def test_a_killed_run_opens_its_files_again_and_goes_on_bit_for_bit(files, both, with_nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    relative = ["--features=msg.npy", "--node-features=nodes.npy"]
    train_and_kill("bare.npz", tmp_path / "run", SEQUENTIAL, *relative)
    monkeypatch.chdir(tmp_path)
    assert "resuming" in mspipe("resume", "run")
    assert numbers(tmp_path / "run") == numbers(with_nodes)
    mspipe("evaluate", "run")
    assert Path("run/evaluation.json").exists()


def test_files_that_were_moved_are_found_where_the_flags_say(files, tmp_path):
    for name in ("bare.npz", "msg.npy", "nodes.npy"):
        Path(name).write_bytes((files / name).read_bytes())
    mspipe("train", "bare.npz", "--out", "run", *RUN, "--features=msg.npy", "--node-features=nodes.npy")
    Path("msg.npy").rename("there.npy")
    # Evaluation first: what is resumed notes the new place, in the best checkpoint too if an epoch more is the best.
    for command in (["evaluate", "run"], ["resume", "run", "--epochs=3"]):
        message = refused(*command)
        assert "msg.npy, the run's event features, does not exist; if moved, give its new place with --feat" in message
        mspipe(*command, "--features=there.npy")
    # From now on it is looked for there.
    mspipe("resume", "run", "--epochs=4")
    np.save("there.npy", np.load("there.npy") + 1)
    message = refused("resume", "run", "--epochs=5")
    assert "the checkpoint was trained with other event features than those given; give its own" in message


def test_a_run_from_files_is_put_to_use(files, with_nodes):
    run = load_run(with_nodes)
    assert run.embed(run.trainer.data.src[:3]).shape == (3, 4)
    assert set(load_checkpoint(with_nodes / "best.pt")["features"]) == {"features", "node_features"}


def test_a_toml_file_may_name_them(files, with_nodes, tmp_path):
    keys = f"[stream]\nfeatures = '{files / 'msg.npy'}'\nnode-features = '{files / 'nodes.npy'}'\n"
    Path("run.toml").write_text(keys)
    mspipe("train", files / "bare.npz", "--out", tmp_path / "run", *RUN, SEQUENTIAL, "--config=run.toml")
    assert numbers(tmp_path / "run") == numbers(with_nodes)


@pytest.fixture
def dyglib(files):
    """The stream and its features in DyGLib's form: ids and rows from 1, float64, zeros in row 0."""
    stream, msg, nodes = np.load(files / "bare.npz"), np.load(files / "msg.npy"), np.load(files / "nodes.npy")
    src, dst, t = (stream[name] for name in ("src", "dst", "t"))
    rows = [f"{n},{src[n] + 1},{dst[n] + 1},{float(t[n])},0.0,{n + 1}\n" for n in range(EVENTS)]
    Path("ml_x.csv").write_text(",u,i,ts,label,idx\n" + "".join(rows))
    for name, values in (("ml_x.npy", msg), ("ml_x_node.npy", nodes)):
        np.save(name, np.vstack([np.zeros(values.shape[1]), values.astype(np.float64)]))
    np.savez("plain.npz", src=src + 1, dst=dst + 1, t=t)
    np.save("plain_nodes.npy", np.vstack([np.zeros(5, np.float32), nodes]))
    return ["ml_x.csv", "--src=u", "--dst=i", "--time=ts", "--label=label"]


def test_files_in_the_form_of_dyglib_give_the_losses_of_plain_ones(files, dyglib):
    both = ["--features=ml_x.npy", "--node-features=ml_x_node.npy"]
    told = mspipe("train", *dyglib, *both, "--out", "run", *RUN, SEQUENTIAL)
    assert "the first row of --features is left out: it is zeros, and there is one row more than events" in told
    plain = ["plain.npz", f"--features={files / 'msg.npy'}", "--node-features=plain_nodes.npy"]
    assert "left out" not in mspipe("train", *plain, "--out", "plain", *RUN, SEQUENTIAL)
    assert numbers(Path("run")) == numbers(Path("plain"))
    mspipe("evaluate", "run")
    mspipe("resume", "run", "--epochs=3")
    mspipe("resume", "plain", "--epochs=3")
    assert numbers(Path("run")) == numbers(Path("plain"))


def test_a_first_row_that_is_not_zeros_is_not_left_out(files, dyglib):
    rows = np.load("ml_x.npy")
    rows[0, 0] = 1
    np.save("ml_x.npy", rows)
    message = refused("train", *dyglib, "--features=ml_x.npy", "--out", "run", *RUN)
    assert "601 rows of event features for 600 events" in message


@pytest.mark.parametrize(
    ("flag", "rows", "message"),
    [
        ("--features", EVENTS - 1, "x.npy: 599 rows of event features for 600 events; give one row for each event"),
        ("--features", EVENTS + 1, "x.npy: 601 rows of event features for 600 events; give one row for each event"),
        ("--node-features", NODES - 1, "x.npy: 29 rows of node features for 30 nodes; give one row for each node"),
        ("--node-features", None, "x.npy does not exist; write features to a file with write_features"),
    ],
)
def test_files_of_another_size_are_refused_before_anything_is_written(files, tmp_path, flag, rows, message):
    if rows is not None:
        np.save("x.npy", np.ones((rows, 2), np.float32))
    before = sorted(tmp_path.rglob("*")), sorted(files.rglob("*"))
    found = refused("train", files / "bare.npz", "--out", "run", *RUN, flag, "x.npy", "--mitigation=similarity")
    assert message in found
    assert (sorted(tmp_path.rglob("*")), sorted(files.rglob("*"))) == before


def test_a_model_that_takes_no_node_features_is_refused_with_them(files):
    flags = [f"--model={EXAMPLE}:NeighbourMean", "--node-features", files / "nodes.npy"]
    message = refused("train", files / "bare.npz", "--out", "run", *RUN, *flags)
    assert "model NeighbourMean takes no node_dim, which this run needs; add it to the arguments of its" in message
    assert not Path("run").exists()


def test_flags_of_features_that_the_run_has_not_are_refused(files, plain):
    for flag in ("--features", "--node-features"):
        assert f"the run was trained without {flag}; leave it out" in refused("evaluate", plain, flag, "x.npy")


def test_rows_that_the_reading_of_the_stream_puts_in_another_order_are_pointed_out(files, both):
    assert "are taken" not in mspipe("train", files / "bare.npz", "--out", "one", *RUN, *both)
    said = mspipe("train", files / "bare.npz", "--out", "two", *RUN, *both, "--sort", "--relabel")
    assert "rows of --features are taken to be in the order of the sorted events" in said
    assert "rows of --node-features are taken to be in the order in which --relabel numbers the nodes" in said
