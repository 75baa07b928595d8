"""Runs on a stream folder and on the file that it was made from are the same, bit for bit."""

import numpy as np
import pytest
import torch
from small_runs import contents, losses, same, small_config, small_stream

from pyg_mspipe.data import convert_stream, load_stream, stream_folder
from pyg_mspipe.training import Trainer, load_checkpoint


@pytest.fixture
def both(tmp_path):
    """A stream in memory, and the same in a folder."""
    data = small_stream()
    arrays = {name: data[name].numpy() for name in ("src", "dst", "t", "msg")}
    np.savez(tmp_path / "e.npz", **arrays, y=np.arange(data.num_events) % 2)
    folder = convert_stream([tmp_path / "e.npz"], tmp_path / "e.stream", memory=20_000)
    return load_stream(tmp_path / "e.npz"), folder.path


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"negatives": "nodes", "staleness": "sequential"},
        {"negatives": "historical", "protocol": "tgb"},
        {"task": "node"},
        {"static_dim": 4},
        {"head": "common"},
    ],
    ids=str,
)
@pytest.mark.parametrize("mapped", [False, True], ids=["page cache", "requests"])
def test_losses_and_checkpoints_are_equal(both, tmp_path, settings, mapped, monkeypatch):
    if mapped:
        monkeypatch.setattr(stream_folder, "_SMALL", 0)
    config = small_config(**settings)
    for name, data in (("file", both[0]), ("folder", load_stream(both[1]))):
        Trainer(data, config, tmp_path / name).fit()
    assert losses(tmp_path / "file") == losses(tmp_path / "folder")
    assert same(contents(tmp_path / "file"), contents(tmp_path / "folder"))


@pytest.mark.parametrize("mapped", [False, True], ids=["page cache", "requests"])
def test_losses_of_float16_messages_are_those_of_their_values(tmp_path, mapped, monkeypatch):
    if mapped:
        monkeypatch.setattr(stream_folder, "_SMALL", 0)
    data = small_stream()
    arrays = {name: data[name].numpy() for name in ("src", "dst", "t")}
    np.savez(tmp_path / "e.npz", **arrays, msg=data.msg.half().numpy())
    folder = convert_stream([tmp_path / "e.npz"], tmp_path / "e.stream", half=True)
    for name, stream in (("file", load_stream(tmp_path / "e.npz")), ("folder", folder.data)):
        Trainer(stream, small_config(epochs=1), tmp_path / name).fit()
    assert losses(tmp_path / "file") == losses(tmp_path / "folder")


def test_a_run_on_the_file_is_resumed_on_the_folder(both, tmp_path):
    Trainer(both[0], small_config(epochs=1), tmp_path / "run").fit()
    Trainer(both[0], small_config(), tmp_path / "whole").fit()
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    checkpoint["config"]["epochs"] = 2
    checkpoint["progress"]["stopped"] = False
    Trainer.resume(load_stream(both[1]), checkpoint, tmp_path / "run").fit()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_nothing_of_all_events_is_read_when_a_trainer_is_made(both, monkeypatch):
    data = load_stream(both[1])
    limit = data.num_events // 2

    def refuse(name, call):
        def checked(x, *args, **options):
            assert x.numel() < limit, f"{name} of {x.numel()} numbers"
            return call(x, *args, **options)

        return checked

    for name in ("max", "min", "aminmax", "sort", "argsort", "unique", "bincount", "clone", "contiguous", "isfinite"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name, getattr(torch.Tensor, name)))
    Trainer(data, small_config())
