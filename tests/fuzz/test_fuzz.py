"""Whatever a file holds: it loads as what it is, or one line says what is wrong. Never a traceback, never a hang.

What loads is read a second time by a plain reader, see ``plain.py``. ``pytest tests/fuzz --budget 3600`` goes on for an
hour with new inputs, ``--thorough`` takes ten times as many as usual, more than 20,000; the count is told at the end.
"""

import faulthandler
import gzip
import json
import random
import sys
import time
import warnings
from bisect import bisect_left
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import events
from files import csv_text, mutate, write_table
from hypothesis import HealthCheck, given, seed, settings
from plain import columns_without_header, number, rows_of, unlike, wrong
from processes import patience
from torch_geometric.data import TemporalData
from typer.testing import CliRunner

from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.cli import app
from pyg_mspipe.data import MappedFeatures, StreamError, load_stream, read_labels, write_features
from pyg_mspipe.timeline import read_trace
from pyg_mspipe.training import CheckpointError, load_checkpoint
from pyg_mspipe.training.metrics_log import LogMark, MetricsLog

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIZES = ["--memory-dim=2", "--time-dim=2", "--embedding-dim=2", "--num-neighbors=1", "--no-tensorboard", "--epochs=1"]


class Inputs:
    """Counts a test's inputs: so many, or as many as its share of the budget lets.

    Args:
        budget: Seconds; 0 for a fixed number.
        factor: Multiplies that number.
    """

    def __init__(self, budget, factor):
        self.first = time.time_ns() if budget else 0
        self.end = time.monotonic() + budget
        self.factor = factor
        self.count = 0

    def __call__(self, usually):
        """Yields a seed and random numbers for one input after the other."""
        while self.count < usually * self.factor or time.monotonic() < self.end:
            yield self.first + self.count, random.Random(self.first + self.count)
            self.count += 1


@pytest.fixture
def inputs(request):
    budget = request.config.getoption("--budget")
    inputs = Inputs(budget / len(request.session.items), 10 if request.config.getoption("--thorough") else 1)
    yield inputs
    request.node.user_properties.append(("inputs", inputs.count))


@pytest.fixture(autouse=True)
def _no_hang(request):
    """What hangs ends the tests with the stacks of all threads."""
    faulthandler.dump_traceback_later(2 * patience() + request.config.getoption("--budget"), exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def refused_or(which, read, *args, **options):
    """Returns what was read, or nothing where it was refused in lines of one sentence each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read(*args, **options)
    except (StreamError, CheckpointError) as error:
        problems = getattr(error, "problems", [str(error)])
    assert not any("\n" in problem for problem in problems), (which, problems)
    assert all(len(problem) < 2000 for problem in problems), which
    return None


def check(path, which, draws):
    relabel, sort = draws.random() < 0.5, draws.random() < 0.5
    data = refused_or(which, load_stream, path, relabel=relabel, sort=sort)
    if data is not None:
        problem = wrong(path, data, relabel=relabel, sort=sort)
        assert problem is None, (which, relabel, sort, problem, path.read_bytes()[:500])
    return data is not None


def test_files_that_hypothesis_draws(inputs, tmp_path):
    paths = [tmp_path / f"e{suffix}" for suffix in (".csv", ".csv.gz", ".parquet", ".npz")]

    def read_each(drawn):
        for path in paths:
            inputs.count += 1
            drawn.write(path)
            data = refused_or(path, load_stream, path, **drawn.options)
            assert data is not None or not drawn.usable, path
            for name, values in drawn.expected().items() if data is not None else ():
                assert data[name].tolist() == values, (path, name)

    while inputs.count < 400 * inputs.factor or time.monotonic() < inputs.end:
        # What it would draw again and again is left to its own number for each round.
        number = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(inputs.first + inputs.count)(number(given(events())(lambda drawn: read_each(drawn))))()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_text_files(inputs, tmp_path, suffix):
    path, loaded = tmp_path / f"e{suffix}", 0
    for which, draws in inputs(600 if suffix == ".csv" else 60):
        text = csv_text(draws)
        content = mutate(text, draws) if draws.random() < 0.6 else text
        if suffix == ".csv.gz":
            content = gzip.compress(content, mtime=0)
            content = mutate(content, draws) if draws.random() < 0.3 else content
        path.write_bytes(content)
        loaded += check(path, which, draws)
    assert loaded > inputs.count // 20, "hardly any can be loaded"


def test_text_files_without_a_header_and_with_any_separator(inputs, tmp_path):
    path, loaded = tmp_path / "e.txt", 0
    for which, draws in inputs(200):
        relabel, sort, mark = draws.random() < 0.5, draws.random() < 0.5, draws.choice([",", "\t", ";", "|", " "])
        ids = [[f"{'u' * relabel}{draws.randrange(9)}" for _ in range(2)] for _ in range(draws.randrange(1, 9))]
        rows = [
            mark.join([*each, str(t)]) for each, t in zip(ids, sorted(draws.sample(range(99), len(ids))), strict=True)
        ]
        content = draws.choice(["\n", "\r\n"]).join(rows).encode()
        content = mutate(content, draws) if draws.random() < 0.6 else content
        path.write_bytes(content)
        options = {"columns": {"src": 0, "dst": 1, "t": 2}, "relabel": relabel, "sort": sort}
        data = refused_or(which, load_stream, path, **options)
        if data is not None:
            columns = columns_without_header(content, mark)
            assert unlike(columns, data, relabel=relabel, sort=sort) is None, (which, content)
            loaded += 1
    assert loaded > 50, "hardly any can be loaded"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_binary_files(inputs, tmp_path, suffix):
    path, loaded = tmp_path / f"e{suffix}", 0
    for which, draws in inputs(300):
        write_table(path, draws)
        if draws.random() < 0.6:
            path.write_bytes(mutate(path.read_bytes(), draws))
        loaded += check(path, which, draws)
    assert loaded > inputs.count // 20, "hardly any can be loaded"


def test_files_of_labels(inputs, tmp_path):
    data = TemporalData(src=torch.arange(9), dst=torch.arange(9), t=torch.arange(9))
    path, loaded = tmp_path / "labels.csv", 0
    for which, draws in inputs(150):
        rows = "".join(f"{draws.randrange(9)},{draws.randrange(9)},{draws.randrange(3)}\n" for _ in range(5))
        path.write_bytes(mutate(b"node,t,y\n" + rows.encode(), draws))
        labels = refused_or(which, read_labels, path, data)
        rows = rows_of(path)
        if labels is None or rows is None:
            continue
        places = [rows[0].index(name) for name in ("node", "t", "y")]
        expected = [tuple(number(row[place]) for place in places) for row in rows[1:]]
        if any(None in row for row in expected):  # dates
            continue
        loaded += 1
        expected = [(bisect_left(range(9), t), node, t, y) for node, t, y in sorted(expected, key=lambda row: row[1])]
        found = zip(*(getattr(labels, name).tolist() for name in ("event", "node", "t", "y")), strict=True)
        assert list(found) == [row for row in expected if row[0] < 9], (which, path.read_bytes())
    assert loaded > inputs.count // 20, "hardly any can be loaded"


def test_files_of_features(inputs, tmp_path):
    path, loaded = tmp_path / "x.npy", 0
    for which, draws in inputs(150):
        x = torch.arange(draws.randrange(1, 30)).float().repeat(draws.randrange(1, 5), 1)
        write_features(path, x.half() if draws.random() < 0.3 else x)
        if draws.random() < 0.3:
            np.save(path, x.numpy().astype(draws.choice(["<f4", "<f2", ">f4", "<f8", "<i4"])))
        if draws.random() < 0.7:
            path.write_bytes(mutate(path.read_bytes(), draws))
        store = refused_or(which, MappedFeatures, path)
        if store is not None:
            loaded += 1
            found, plain = store.read(torch.arange(store.num_rows)).numpy(), np.load(path)
            plain = plain.astype(np.float32) if plain.dtype == np.float64 else plain  # as DyGLib has them
            assert (found.dtype, found.tobytes()) == (plain.dtype, plain.tobytes()), which
    assert loaded > inputs.count // 20, "hardly any can be loaded"


def test_settings(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, trained = synthetic(60, num_src=5, num_dst=5), []
    np.savez("e.npz", **{name: data[name].numpy() for name in ("src", "dst", "t")})
    monkeypatch.setattr("pyg_mspipe.cli.fitting.fit", lambda launch, trainer, folder, replace: trained.append(trainer))
    text = b'[training]\nlr = 1e-3\npatience = 3\n[evaluation]\ncut-off = "event"\n[model]\nmodel = "jodie"\n'
    text += b"dropout = 0.25\n[stream]\nsort = true\n"
    for which, draws in inputs(60):
        content = mutate(text, draws)
        Path("c.toml").write_bytes(content)
        result = CliRunner().invoke(app, ["train", "e.npz", *SIZES, "--config", "c.toml", "--out", "run"])
        if result.exit_code == 2:
            assert result.stderr.count("\n") == 1, (which, result.stderr)
            continue
        assert result.exit_code == 0, (which, result.exception, content)
        trainer = trained.pop()
        values = {name: value for table in tomllib.loads(content.decode()).values() for name, value in table.items()}
        usual = vars(TrainConfig())
        for name, value in values.items():
            name = name.replace("-", "_")
            if name in usual and not any(each.startswith(f"--{name.replace('_', '-')}=") for each in SIZES):
                assert getattr(trainer.config, name) == value, (which, content)
        assert trainer.source.get("sort", False) == values.get("sort", False), (which, content)
    assert inputs.count


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, with a timeline beside it."""
    folder = tmp_path_factory.mktemp("run")
    data = synthetic(300, num_src=20, num_dst=20, msg_dim=1)
    sizes = {"epochs": 1, "batch_size": 40, "memory_dim": 2, "time_dim": 2, "embedding_dim": 2, "num_neighbors": 1}
    config = TrainConfig(**sizes, tensorboard=False, timeline=str(folder / "out.json"))
    Trainer(data, config, folder / "run").fit()
    return folder / "run"


def test_checkpoints(inputs, run, tmp_path):
    whole = (run / "last.pt").read_bytes()
    before, path = load_checkpoint(run / "last.pt"), tmp_path / "last.pt"
    for which, draws in inputs(120):
        content = bytearray(whole)
        place, what = draws.randrange(len(content)), draws.randrange(4)
        if what == 0:
            del content[place:]
        elif what == 1:
            content[place] ^= 1 << draws.randrange(8)
        elif what == 2:  # a block that the disk has lost
            content[place : place + 512] = bytes(len(content[place : place + 512]))
        else:
            content = mutate(content, draws)
        path.write_bytes(content)
        found = refused_or(which, load_checkpoint, path)
        assert found is None or equal(found, before), which


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_logs(inputs, run, tmp_path):
    whole, path = (run / "metrics.jsonl").read_bytes(), tmp_path / "metrics.jsonl"
    mark = LogMark(**load_checkpoint(run / "last.pt")["log"])
    assert mark.length == len(whole)
    for which, draws in inputs(120):
        content = mutate(whole + b'{"kind": "batch", "ste' * draws.randrange(2), draws)
        path.write_bytes(content)
        log = refused_or(which, MetricsLog, tmp_path, kept=mark)
        if log is None:
            assert path.read_bytes() == content, which
            continue
        with log:
            log.write("batch", 7, loss=0.5)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[:-1] == [json.loads(line) for line in whole.splitlines()], which
        assert lines[-1] == {"kind": "batch", "step": 7, "loss": 0.5}


def test_timelines(inputs, run, tmp_path):
    whole, path = run.with_name("out.json").read_bytes(), tmp_path / "out.json"
    for which, draws in inputs(60):
        path.write_bytes(mutate(whole, draws))
        result = CliRunner().invoke(app, ["timeline", str(path)])
        assert result.exit_code in (0, 2), (which, result.exception)
        assert result.stderr.count("\n") == (1 if result.exit_code else 0), (which, result.stderr)
        if result.exit_code == 0:
            spans = [each for each in json.loads(path.read_bytes())["traceEvents"] if each.get("cat") == "stage"]
            expected = sorted((each["args"]["index"], each["ts"] / 1e6) for each in spans)
            found = [(record.index, begin) for record in read_trace(path) for begin in record.begin.values()]
            assert sorted(found) == expected, which
