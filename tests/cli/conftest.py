"""What the tests of the command line share."""

import numpy as np
import pytest
from small_commands import SMALL
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.data import synthetic


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Every test works in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mspipe():
    """Calls a command and gives its result."""

    def call(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return call


@pytest.fixture
def train(mspipe):
    """Trains a small model with success."""

    def call(*args):
        result = mspipe("train", *args, *SMALL)
        assert result.exit_code == 0, result.stderr
        return result

    return call


@pytest.fixture(scope="session")
def arrays():
    """The arrays of a good stream."""
    data = synthetic(num_events=400, num_src=20, num_dst=20, msg_dim=2)
    return {name: data[name].numpy() for name in ("src", "dst", "t", "msg")}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The file of a stream for runs in processes of their own."""
    data = synthetic(num_events=600, num_src=20, num_dst=20, msg_dim=2)
    path = tmp_path_factory.mktemp("stream") / "events.npz"
    np.savez(path, **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    return str(path)


@pytest.fixture
def npz(tmp_path, arrays):
    """Writes a good stream, or one with other arrays in places."""

    def write(name="events.npz", **others):
        np.savez(tmp_path / name, **{key: value for key, value in (arrays | others).items() if value is not None})
        return name

    return write


@pytest.fixture
def files(tmp_path):
    """Lists all files and folders here."""

    def listed():
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    return listed
