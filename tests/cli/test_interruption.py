import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from processes import Forked, patience
from typer.testing import CliRunner

from pyg_mspipe.cli import app
from pyg_mspipe.training import load_checkpoint

SMALL = ["--memory-dim=4", "--time-dim=4", "--embedding-dim=4", "--num-neighbors=2", "--no-tensorboard", "--lr=1e-3"]
# 336 batches, a checkpoint for every third: long enough that no signal comes too late.
LONG = [*SMALL, "--epochs=8", "--batch-size=10", "--checkpoint-every=3", "--patience=0", "--eval-negatives=2"]
# One epoch of a few batches, and a validation of a second or two where there are so many destinations.
VALIDATED = [*SMALL, "--epochs=1", "--batch-size=10", "--val-ratio=0.7", "--eval-negatives=6000"]


@pytest.fixture(scope="module")
def undisturbed(stream):
    """The log of the long run that nobody interrupts."""
    run = Path(stream).parent / "whole"
    assert CliRunner().invoke(app, ["train", stream, *LONG, "--out", str(run)]).exit_code == 0
    return log_of(run)


def start(*args):
    """Starts the command as a process of its own."""
    return Forked("-m", "pyg_mspipe", *args)


def wait_for_checkpoint(process, path, newer_than=0):
    end = time.monotonic() + patience()
    while not (path.exists() and path.stat().st_mtime_ns > newer_than):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)


def log_of(run):
    """The lines of a run's log but for rates and times, which no run has twice, and the header, which has a path."""
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()[1:]]
    lines = [line for line in lines if line["kind"] != "stages"]
    return [{name: value for name, value in line.items() if name != "rate"} for line in lines]


def stopped(process, which):
    """Sends a signal and asserts that the command says how to go on."""
    process.send_signal(which)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "interrupted; go on with: mspipe resume run\n"
    return load_checkpoint(Path("run/last.pt"))["progress"]


def test_no_kill_loses_a_batch_or_leaves_a_checkpoint_that_cannot_be_read(mspipe, stream, undisturbed):
    last, rng = Path("run/last.pt"), random.Random(0)
    process = start("train", stream, *LONG, "--out", "run")
    written = 0
    for attempt in range(3):
        if attempt:
            process = start("resume", "run")
        wait_for_checkpoint(process, last, newer_than=written)
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        for checkpoint in Path("run").glob("*.pt"):
            assert load_checkpoint(checkpoint)["progress"]["step"] > 0
        written = last.stat().st_mtime_ns
    assert mspipe("resume", "run").exit_code == 0
    assert log_of("run") == undisturbed
    assert sorted(path.name for path in Path("run").iterdir()) == ["best.pt", "last.pt", "metrics.jsonl"]


def test_ctrl_c_and_termination_leave_a_checkpoint_that_goes_on_with_the_same_losses(mspipe, stream, undisturbed):
    process = start("train", stream, *LONG, "--out", "run")
    wait_for_checkpoint(process, Path("run/last.pt"))
    first = stopped(process, signal.SIGINT)
    assert len(log_of("run")) >= first["step"] > 0

    process = start("resume", "run")
    wait_for_checkpoint(process, Path("run/last.pt"), newer_than=Path("run/last.pt").stat().st_mtime_ns)
    second = stopped(process, signal.SIGTERM)
    assert 336 > second["step"] > first["step"]

    result = mspipe("resume", "run")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"resuming run at epoch {second['epoch'] + 1}, batch {second['batch']}\n")
    assert log_of("run") == undisturbed


def test_ctrl_c_in_validation_leaves_a_checkpoint_that_validates_again(mspipe, stream):
    with np.load(stream) as arrays:
        np.savez("wide.npz", **{name: arrays[name] * (2000 if name == "dst" else 1) for name in arrays})
    stream = "wide.npz"
    process = start("train", stream, *VALIDATED, "--out", "run")
    wait_for_checkpoint(process, Path("run/last.pt"))
    progress = stopped(process, signal.SIGINT)
    assert (progress["epoch"], progress["batch"], progress["best_epoch"]) == (0, 9, -1)
    assert not Path("run/best.pt").exists()
    assert mspipe("resume", "run").exit_code == 0
    assert mspipe("train", stream, *VALIDATED, "--out", "whole").exit_code == 0
    assert log_of("run") == log_of("whole")


def test_ctrl_c_while_static_memory_is_trained_leaves_no_run(mspipe, stream):
    process = start("train", stream, *SMALL, "--epochs=1", "--static-dim=4", "--static-epochs=1000000", "--out", "run")
    wait_for_checkpoint(process, Path("run"))  # which is made just before
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate()
    assert (process.returncode, shown.count("\n")) == (130, 1)
    assert errors == "interrupted before the first batch; start again with the same command\n"
    assert not list(Path("run").iterdir())
    assert mspipe("train", stream, *SMALL, "--epochs=1", "--static-dim=4", "--out", "run").exit_code == 0


def test_a_process_that_fails_says_so_and_how_to_mend_it_and_its_exit_code():
    Path("bad.csv").write_text("src,dst,t\n0,1,5\n0,1,4\n")
    process = start("train", "bad.csv", "--out", "run")
    shown, errors = process.communicate()
    assert (process.returncode, shown) == (2, "")
    where = f"{Path('bad.csv').resolve()}: event 1 (line 3)"
    said, mend = errors.splitlines()
    assert said == f"error: {where}: t decreases from 5 to 4; sort the stream or pass --sort"
    assert mend == "to mend it: mspipe train bad.csv --out run --sort"
    assert not Path("run").exists()
