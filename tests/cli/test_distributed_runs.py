import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import marked, output, patience, pids, together, torchrun
from typer.testing import CliRunner

import pyg_mspipe
from pyg_mspipe.cli import app
from pyg_mspipe.training import load_checkpoint

ACTING = Path(__file__).with_name("acting.py")
SMALL = ["--memory-dim=4", "--time-dim=4", "--embedding-dim=4", "--num-neighbors=2", "--no-tensorboard"]
RUN = [*SMALL, "--epochs=4", "--batch-size=10", "--checkpoint-every=4", "--eval-negatives=2", "--overlap=always"]
SLOT = ["--parallel=1x2x1", *RUN]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


class Started:
    """A run under torchrun.

    Args:
        count: Of processes.
        arguments: Of ``mspipe``.
        acts: What its processes are to do, see ``acting.py``.
        restarts: How often torchrun may start it anew.
    """

    def __init__(self, count, *arguments, acts=(), restarts=0):
        environment, self.mark = marked()
        self.shared_before = shared_memory()
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        self.process = subprocess.Popen(
            [*start, f"--max-restarts={restarts}", str(ACTING), *map(str, arguments)],
            env=environment | {"PYTHONPATH": str(Path(pyg_mspipe.__file__).parents[1]), "ACTS": json.dumps(acts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pids(self):
        """Returns the ids of all its processes, torchrun's among them."""
        return pids(self.mark)

    def end(self):
        """Waits for its end, and returns what it said and torchrun's exit code; nothing may be left of it."""
        said = output(self.process, self.mark)
        until = time.monotonic() + patience()
        while (left := self.pids()) or shared_memory() - self.shared_before:
            assert time.monotonic() < until, (left, shared_memory() - self.shared_before, said)
            time.sleep(0.05)
        return said, self.process.returncode


def shared_memory():
    """Names that a run could leave; other runs of the machine may have theirs there for a moment."""
    return {path.name for path in Path("/dev/shm").glob("mspipe-*")}


def said_by_us(said):
    """What the run itself said after the line on its stream, without torchrun's and torch's own words."""
    said = re.sub(r"^[\d,]+ events, .*\n", "", said, flags=re.MULTILINE)
    said = re.sub(r"^Exception raised from .*?^\n", "", said, flags=re.MULTILINE | re.DOTALL)
    said = re.sub(r"^\[rank\d\]:\[W.*\n", "", said, flags=re.MULTILINE)
    said = re.sub(r"^[WE]\d{4} .*\n", "", said, flags=re.MULTILINE)
    return said.partition("Traceback (most recent call last):\n  File")[0].splitlines()


def forked(count, *arguments, acts, attempt=0):
    """Runs processes to their end as torchrun would start them for the n-th time, and returns what they said."""
    env = {"ACTS": json.dumps(acts), "TORCHELASTIC_RESTART_COUNT": str(attempt)}
    with together(count, ACTING, *arguments, env=env) as processes:
        codes = [process.wait() for process in processes]
    assert all(codes)
    return [line for process in processes for line in said_by_us("".join(process.communicate()))]


def without_ids(said):
    return [re.sub(r"\d+ on .*\)", "", line) for line in said]


def losses(run):
    lines = map(json.loads, Path(run, "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "batch"]


@pytest.fixture(scope="module")
def undisturbed(stream):
    """A run that nothing happens to."""
    run = Path(stream).parent / "whole"
    leader, _ = torchrun(2, "-m", "pyg_mspipe", "train", stream, *SLOT, "--out", run)
    read, first, second, best = leader.communicate()[0].splitlines()
    assert read.startswith("600 events, ")
    assert first.startswith("epoch 2/4  loss ")
    assert second.startswith("epoch 4/4  loss ")
    assert best.startswith("best validation AP ")
    assert len(losses(run)) == 86
    return run


# Batches are read ahead, but this one not before step 29 has committed: the checkpoint of batch 28 is there.
LEADER_DIES = {"rank": 0, "call": "end_read", "position": 30, "act": "die"}


def test_a_run_whose_trainer_is_killed_is_started_again_by_torchrun_and_ends_with_the_same_losses(stream, undisturbed):
    said, code = Started(2, "train", stream, *SLOT, "--out", "run", acts=[LEADER_DIES], restarts=1).end()
    assert code == 0, said
    told = [line for line in without_ids(said_by_us(said)) if line.startswith(("error", "resuming"))]
    assert told == ["error: rank 0 (process  died", "resuming run at epoch 1, batch 28"]
    assert losses("run") == losses(undisturbed)
    assert len(list(Path("run").glob("last.*.rank*.pt"))) == 2
    assert not list(Path("run").glob(".*.part"))


def test_a_run_whose_first_and_then_second_trainer_is_killed_ends_with_the_same_losses(stream, undisturbed):
    # Between two steps, when the other one waits for its commit and for nothing else.
    deaths = [LEADER_DIES, {"rank": 1, "call": "begin_commit", "position": 39, "act": "die"}]
    run = ["train", stream, *SLOT, "--out", "run"]
    told = [line for attempt in range(2) for line in forked(2, *run, acts=deaths, attempt=attempt)]
    assert without_ids(told) == [
        "error: rank 0 (process  died",
        "resuming run at epoch 1, batch 28",
        "error: rank 1 (process  died",
    ]
    leader, _ = torchrun(2, "-m", "pyg_mspipe", *run, env={"TORCHELASTIC_RESTART_COUNT": "2"})
    assert said_by_us(leader.communicate()[0])[0] == "resuming run at epoch 1, batch 36"
    assert losses("run") == losses(undisturbed)


def test_part_trainers_and_leaders_of_later_groups_may_be_killed_too(mspipe, stream):
    plan = ["--parallel=2x1x2", *RUN]
    deaths = [
        {"rank": 2, "call": "begin_read", "position": 10, "act": "die"},
        {"rank": 1, "call": "begin_commit", "position": 15, "act": "die"},
    ]
    run = ["train", stream, *plan, "--out", "run"]
    assert without_ids(forked(4, *run, acts=deaths)) == ["error: rank 2 (process  died"] * 3
    first, *told = forked(4, *run, acts=deaths, attempt=1)
    assert first == "resuming run at epoch 1, batch 8"
    assert without_ids(told) == ["error: rank 1 (process  died"] * 3
    assert mspipe("resume", "run", "--emulate").exit_code == 0
    assert mspipe("train", stream, *plan, "--emulate", "--out", "whole").exit_code == 0
    assert np.array(losses("run")) == pytest.approx(np.array(losses("whole")), abs=1e-6)


def test_ctrl_c_and_termination_of_torchrun_leave_a_checkpoint_that_several_or_one_go_on_with(
    mspipe, stream, undisturbed
):
    for position, command, which in (
        (10, ["train", stream, *SLOT, "--out", "run"], "interrupt torchrun"),
        (30, ["resume", "run"], "terminate torchrun"),
    ):
        act = {"rank": 0, "call": "begin_commit", "position": position, "act": which}
        said, code = Started(2, *command, acts=[act]).end()
        assert code == 1  # torchrun's
        assert said_by_us(said)[-1] == "interrupted; go on with: torchrun ... -m pyg_mspipe resume run"
        assert not [line for line in said_by_us(said) if line.startswith("error")]
        assert position <= load_checkpoint(Path("run/last.pt"))["progress"]["step"] < 86

    shutil.copytree("run", "alone")
    result = mspipe("resume", "run")
    assert result.exit_code == 2
    assert "torchrun --nproc-per-node 2 -m pyg_mspipe resume run" in result.stderr
    assert mspipe("resume", "run", "--emulate").exit_code == 0
    assert np.array(losses("run")) == pytest.approx(np.array(losses(undisturbed)), abs=1e-6)
    assert mspipe("evaluate", "run").exit_code == 0

    # With another plan the sweep begins again.
    result = mspipe("resume", "alone", "--parallel=1x1x1")
    assert result.exit_code == 0
    assert result.stdout.startswith("resuming alone at epoch 1, batch 0\n")
    assert mspipe("evaluate", "alone").exit_code == 0


def test_what_differs_between_processes_is_found_at_start(stream, tmp_path):
    other = str(tmp_path / "other.npz")
    events = dict(np.load(stream))
    np.savez(other, **events | {"msg": events["msg"] + 1})
    differences = {"seed 7 and rank 0 6": {"--seed=6": "--seed=7"}, "stream DIGEST and rank 0 DIGEST": {stream: other}}
    for what, instead in differences.items():
        acts = [{"rank": 1, "arguments": instead}]
        told = forked(2, "train", stream, *SLOT, "--seed=6", "--out", "run", acts=acts)
        said = f"error: rank 1 has {what}; start all processes with the same stream and flags"
        assert [re.sub(r"'\w{32}'", "DIGEST", line) for line in told] == 2 * [said]
    assert not Path("run").exists()


def test_a_process_that_does_not_answer_is_given_up(stream):
    stall = {"rank": 1, "call": "begin_read", "position": 11, "act": "stall"}
    run = ["train", stream, *SLOT, "--timeout=3", "--out", "run"]
    before = shared_memory()
    with together(2, ACTING, *run, env={"ACTS": json.dumps([stall])}) as (leader, stalled):
        assert leader.wait() == 1
        assert stalled.poll() is None
    (said,) = said_by_us("".join(leader.communicate()))
    assert re.fullmatch(r"error: rank 1 \(process \d+ on .*\) is stopped and does not answer", said), said
    until = time.monotonic() + patience()
    while left := shared_memory() - before:
        assert time.monotonic() < until, left
        time.sleep(0.05)
    assert CliRunner().invoke(app, ["resume", "run", "--emulate"]).exit_code == 0
