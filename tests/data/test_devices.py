"""No output replaces a device, a pipe or a socket, and no input keeps one waiting there."""

import os
import socket
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.training import load_checkpoint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
SMALL = ["--memory-dim=4", "--time-dim=4", "--embedding-dim=4", "--no-tensorboard", "--epochs=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def odd_files():
    """A pipe, a socket, and links to them and to a device."""
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    Path("link").symlink_to("pipe")
    Path("null").symlink_to("/dev/null")
    return ["pipe", "socket", "link", "null"]


def refused(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


def test_they_are_not_written():
    for name in odd_files():
        before = Path(name).stat()
        said = "is a device, a pipe or a socket; give the name of a regular file"
        with pytest.raises(OSError, match=said), atomic_write(Path(name)) as file:
            file.write(b"x")
        assert stat.S_IFMT(Path(name).stat().st_mode) == stat.S_IFMT(before.st_mode)
        refused("train", "synthetic", *SMALL, "--timeline", name, "--out", "run")
    assert not Path("run").exists()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_they_are_not_read():
    np.savez("events.npz", src=[0, 1], dst=[1, 0], t=[1, 2])
    for name in odd_files()[:3]:
        Path(f"{name}.csv").symlink_to(name)
        assert "is no regular file" in refused("train", f"{name}.csv", *SMALL, "--out", "run")
        refused("train", "synthetic", *SMALL, "--config", name, "--out", "run")
        refused("timeline", name)
        refused("train", "events.npz", *SMALL, "--features", name, "--out", "run")
        Path("run").mkdir(exist_ok=True)
        Path("run/last.pt").unlink(missing_ok=True)
        Path("run/last.pt").symlink_to(Path(name).resolve())
        refused("resume", "run")
        Path("run/last.pt").unlink()


def test_a_link_is_written_through():
    Path("real").write_text("old")
    Path("link").symlink_to("real")
    with atomic_write(Path("link")) as file:
        file.write(b"new")
    assert Path("link").is_symlink()
    assert Path("real").read_text() == "new"


def test_a_folder_that_cannot_be_written_is_refused_before_training(monkeypatch):
    Path("closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = refused("train", "synthetic", *SMALL, "--timeline", "closed/out.json", "--out", "run")
    assert "the folder closed is not writable" in said
    assert not Path("run").exists()


def test_a_log_is_no_pipe():
    CliRunner().invoke(app, ["train", "synthetic", *SMALL, "--batch-size=1000", "--out", "run"])
    assert load_checkpoint("run/last.pt")
    Path("run/metrics.jsonl").unlink()
    os.mkfifo("run/metrics.jsonl")
    refused("resume", "run", "--epochs", "2")
