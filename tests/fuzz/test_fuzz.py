"""Whatever a file holds: it loads as what it is, or one line says what is wrong. Never a traceback, never a hang.

``pytest tests/fuzz --budget 3600`` goes on for an hour with new inputs.
"""

import faulthandler
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from files import csv_text, mutate, plain_rows, unlike, write_table, wrong
from processes import patience
from torch_geometric.data import TemporalData
from typer.testing import CliRunner

from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.cli import app
from pyg_mspipe.data import StreamError, load_stream, read_labels
from pyg_mspipe.training import CheckpointError, load_checkpoint

SIZES = ["--memory-dim=2", "--time-dim=2", "--embedding-dim=2", "--num-neighbors=1", "--no-tensorboard", "--epochs=1"]


@pytest.fixture(autouse=True)
def _no_hang():
    """What hangs ends the tests with the stacks of all threads."""
    faulthandler.dump_traceback_later(2 * patience(), exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def inputs(request):
    """Yields random numbers for one input after the other: a few, or as many as the budget lets."""
    budget, first = (
        request.config.getoption("--budget"),
        0 if not request.config.getoption("--budget") else time.time_ns(),
    )
    end = time.monotonic() + budget / 6

    def draw(count):
        number = 0
        while number < count or time.monotonic() < end:
            yield first + number, random.Random(first + number)
            number += 1

    return draw


def refused_or(seed, read, *args, **options):
    """Returns what was read, or nothing where it was refused in lines of one sentence each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read(*args, **options)
    except (StreamError, CheckpointError) as error:
        problems = getattr(error, "problems", [str(error)])
    assert not any("\n" in problem for problem in problems), (seed, problems)
    assert all(len(problem) < 2000 for problem in problems), seed
    return None


def check(path, seed, draws):
    relabel, sort = draws.random() < 0.5, draws.random() < 0.5
    data = refused_or(seed, load_stream, path, relabel=relabel, sort=sort)
    if data is not None and path.suffix == ".csv":
        assert wrong(path, data, relabel=relabel, sort=sort) is None, (seed, relabel, sort, path.read_bytes()[:500])
    return data is not None


def test_text_files(inputs, tmp_path):
    path, loaded = tmp_path / "e.csv", 0
    for seed, draws in inputs(600):
        text = csv_text(draws)
        path.write_bytes(mutate(text, draws) if draws.random() < 0.6 else text)
        loaded += check(path, seed, draws)
    assert loaded > 50, "hardly any can be loaded"


def test_text_files_without_a_header_and_with_any_separator(inputs, tmp_path):
    path, loaded = tmp_path / "e.txt", 0
    for seed, draws in inputs(200):
        relabel, sort, mark = draws.random() < 0.5, draws.random() < 0.5, draws.choice([",", "\t", ";", "|", " "])
        ids = [[f"{'u' * relabel}{draws.randrange(9)}" for _ in range(2)] for _ in range(draws.randrange(1, 9))]
        rows = [
            mark.join([*each, str(t)]) for each, t in zip(ids, sorted(draws.sample(range(99), len(ids))), strict=True)
        ]
        content = draws.choice(["\n", "\r\n"]).join(rows).encode()
        content = mutate(content, draws) if draws.random() < 0.6 else content
        path.write_bytes(content)
        options = {"columns": {"src": 0, "dst": 1, "t": 2}, "relabel": relabel, "sort": sort}
        data = refused_or(seed, load_stream, path, **options)
        if data is not None:
            assert unlike(plain_rows(content, mark), data, relabel=relabel, sort=sort) is None, (seed, content)
            loaded += 1
    assert loaded > 50, "hardly any can be loaded"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_binary_files(inputs, tmp_path, suffix):
    path, loaded = tmp_path / f"e{suffix}", 0
    for seed, draws in inputs(300):
        write_table(path, draws)
        if draws.random() < 0.6:
            path.write_bytes(mutate(path.read_bytes(), draws))
        loaded += check(path, seed, draws)
    assert loaded > 20, "hardly any can be loaded"


def test_files_of_labels(inputs, tmp_path):
    data = TemporalData(src=torch.arange(9), dst=torch.arange(9), t=torch.arange(9))
    path = tmp_path / "labels.csv"
    for seed, draws in inputs(150):
        rows = "".join(f"{draws.randrange(9)},{draws.randrange(9)},{draws.randrange(3)}\n" for _ in range(5))
        path.write_bytes(mutate(b"node,t,y\n" + rows.encode(), draws))
        labels = refused_or(seed, read_labels, path, data)
        assert labels is None or not len(labels) or int(labels.event.max()) < 9


def test_settings(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("e.npz", src=[0, 1], dst=[1, 0], t=[1, 2])
    text = b'[training]\nepochs = 1\nlr = 1e-3\n[model]\nmemory-dim = 2\nmodel = "jodie"\n[stream]\nsort = true\n'
    for seed, draws in inputs(60):
        Path("c.toml").write_bytes(mutate(text, draws))
        # The stream has too few events, so that nothing is trained whatever the file says.
        result = CliRunner().invoke(app, ["train", "e.npz", *SIZES, "--config", "c.toml", "--out", "run"])
        assert result.exit_code == 2, (seed, result.exception, Path("c.toml").read_bytes())
        assert result.stderr.count("\n") == 1, (seed, result.stderr)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, and its stream."""
    folder = tmp_path_factory.mktemp("run")
    data = synthetic(300, num_src=20, num_dst=20, msg_dim=1)
    np.savez(folder / "e.npz", **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    config = TrainConfig(epochs=1, memory_dim=2, time_dim=2, embedding_dim=2, num_neighbors=1, tensorboard=False)
    source = {"name_or_path": str(folder / "e.npz")}
    Trainer(data, config, folder / "run", source=source).fit()
    return folder / "run"


def test_bits_of_a_checkpoint(inputs, run, tmp_path):
    whole = (run / "last.pt").read_bytes()
    before = load_checkpoint(run / "last.pt")
    path = tmp_path / "last.pt"
    for seed, draws in inputs(120):
        content = bytearray(whole)
        if draws.random() < 0.3:
            del content[draws.randrange(len(content)) :]
        else:
            place = draws.randrange(len(content))
            content[place] ^= 1 << draws.randrange(8)
        path.write_bytes(content)
        found = refused_or(seed, load_checkpoint, path)
        assert found is None or equal(found, before), seed


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_a_timeline(inputs, tmp_path):
    data = synthetic(400, num_src=20, num_dst=20, msg_dim=1)
    config = TrainConfig(epochs=1, batch_size=40, memory_dim=2, time_dim=2, embedding_dim=2, tensorboard=False)
    path = tmp_path / "out.json"
    Trainer(data, TrainConfig(**vars(config) | {"timeline": str(path)})).fit()
    whole = path.read_bytes()
    for seed, draws in inputs(60):
        path.write_bytes(mutate(whole, draws))
        result = CliRunner().invoke(app, ["timeline", str(path)])
        assert result.exit_code in (0, 2), (seed, result.exception)
        assert result.stderr.count("\n") <= 1, (seed, result.stderr)
