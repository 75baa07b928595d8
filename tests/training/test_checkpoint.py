import io
import os
import pickle
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small_config, small_stream
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.training import CheckpointError, Trainer, load_checkpoint, save_checkpoint

CONTENT = {"weights": torch.arange(4.0), "state": {"t": torch.tensor([2**62])}, "step": 3, "best": float("-inf")}


@pytest.fixture
def path(tmp_path):
    save_checkpoint(tmp_path / "last.pt", CONTENT)
    return tmp_path / "last.pt"


class RunsCode:
    """Whose unpickling makes a file."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


def names(path):
    return [each.name for each in path.parent.iterdir()]


def test_what_was_saved_is_loaded(path):
    loaded = load_checkpoint(path)
    assert loaded["weights"].tolist() == [0, 1, 2, 3]
    assert loaded["state"]["t"].tolist() == [2**62]
    assert (loaded["step"], loaded["best"]) == (3, float("-inf"))
    assert names(path) == ["last.pt"]


def test_a_new_checkpoint_replaces_the_old_one(path):
    save_checkpoint(path, {"step": 4})
    assert load_checkpoint(path)["step"] == 4
    assert names(path) == ["last.pt"]


def test_what_cannot_be_saved_leaves_the_old_checkpoint_and_nothing_else(path):
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, {"big": torch.zeros(10_000), "function": lambda: None})
    assert load_checkpoint(path)["step"] == 3
    assert names(path) == ["last.pt"]


# torch reports a failed write in different ways, depending on where in the file it happens.
@pytest.mark.parametrize("room", [0, 100, 2_000, 100_000, 399_000, 400_500])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(path, room):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(path)["step"] == 3
    assert names(path) == ["last.pt"]


def test_a_missing_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_checkpoint(tmp_path / "nowhere" / "last.pt", CONTENT)


def refused(path, message="not a checkpoint of pyg_mspipe, or damaged; give another file"):
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(path)
    assert str(raised.value).startswith(str(path))


def test_a_missing_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "last.pt", "no such checkpoint; a run has last.pt after")
    refused(tmp_path, "no such checkpoint")


def test_a_checkpoint_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)


def test_random_bytes_are_refused(tmp_path):
    rng = random.Random(0)
    for start in (b"", b"\x80\x02", b"PK\x03\x04", pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)):
        for _ in range(50):
            (tmp_path / "last.pt").write_bytes(start + rng.randbytes(rng.randrange(300)))
            refused(tmp_path / "last.pt")


def test_a_checkpoint_with_other_bits_never_loads_as_something_else(path):
    save_checkpoint(path, {"weights": torch.randn(100)})
    whole, expected = path.read_bytes(), load_checkpoint(path)["weights"]
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert torch.equal(load_checkpoint(path)["weights"], expected)
        except CheckpointError:
            continue


def saved_by_torch(proof: Path, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"format": 3, "weights": RunsCode(proof)}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["torch", "torch before 1.6", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path, kind):
    proof = tmp_path / "proof"
    content = {
        "torch": saved_by_torch(proof, zipped=True),
        "torch before 1.6": saved_by_torch(proof, zipped=False),
        "pickle": pickle.dumps({"format": 3, "weights": RunsCode(proof)}),
    }[kind]
    (tmp_path / "last.pt").write_bytes(content)
    refused(tmp_path / "last.pt")
    assert not proof.exists()


def test_the_code_in_question_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(RunsCode(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("content", [{"format": 1}, {"format": "3"}, {"format": True}, {"step": 3}, {}, [1], 3])
def test_another_format_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    refused(tmp_path / "last.pt", r"checkpoint format .*, this version reads 3; train again")


def test_a_format_that_is_a_tensor_is_refused(tmp_path):
    torch.save({"format": torch.ones(2)}, tmp_path / "last.pt")
    refused(tmp_path / "last.pt", "this version reads 3")


def flawed(checkpoint):
    """Yields checkpoints of which one part is missing or of another kind, with the part's name."""
    for name in checkpoint:
        yield name, {key: value for key, value in checkpoint.items() if key != name}
        if name != "format":
            yield name, checkpoint | {name: 17.5}
    for part in ("config", "progress", "names", "log"):
        for name in checkpoint[part]:
            if part != "config":
                yield name, checkpoint | {part: {key: x for key, x in checkpoint[part].items() if key != name}}
            if name != "epochs":  # which the command sets anew
                yield name, checkpoint | {part: checkpoint[part] | {name: [1]}}
        yield (
            part,
            checkpoint | {part: checkpoint[part] | {"another": 1}} if part != "names" else checkpoint | {part: {}},
        )
    yield "model", checkpoint | {"model": {"weight": 3}}
    yield "optimizer", checkpoint | {"optimizer": {}}
    yield "features", checkpoint | {"features": {"features": {}}}


def test_what_is_no_runs_checkpoint_is_refused_in_one_line_and_changes_nothing(tmp_path):
    data = small_stream()
    np.savez(tmp_path / "events.npz", **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    source = {"name_or_path": str(tmp_path / "events.npz")}
    Trainer(data, small_config(epochs=1), tmp_path / "run", source=source).fit()
    path = tmp_path / "run" / "last.pt"
    whole, before = load_checkpoint(path), path.read_bytes()
    count = 0
    for name, content in flawed(whole):
        count += 1
        save_checkpoint(path, {key: value for key, value in content.items() if key != "format"})
        result = CliRunner().invoke(app, ["resume", str(tmp_path / "run"), "--epochs", "2"])
        if name == "format":  # which is written anew
            continue
        assert result.exit_code == 2, (name, result.output, result.exception)
        assert result.stderr.startswith("error: "), name
        assert result.stderr.count("\n") == 1, name
    assert count > 80
    path.write_bytes(before)
    for other in ("static.pt", "best.pt"):
        (tmp_path / "run" / other).unlink(missing_ok=True)
    save_checkpoint(path, {"vectors": torch.zeros(3)})
    result = CliRunner().invoke(app, ["resume", str(tmp_path / "run")])
    assert "not a run's checkpoint, whose config, progress, source are missing" in result.stderr
