"""Whenever a run is killed, it goes on to the losses and the checkpoints that it would have had.

``pytest tests/training/test_kills.py --thorough`` kills each kind of run before and after each fsync and rename.
"""

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from processes import Forked, torchrun
from small_runs import contents, read_log, same

from pyg_mspipe.data import synthetic
from pyg_mspipe.training import load_checkpoint

DYING = Path(__file__).with_name("dying.py")
# Two sweeps of five batches, with a checkpoint amid each.
SIZES = "--memory-dim 2 --time-dim 2 --embedding-dim 2 --num-neighbors 2 --eval-negatives 1 --batch-size 20 --epochs 2"
COMMON = f"{SIZES} --checkpoint-every 3 --patience 0 --lr 1e-3 --threads 1 --lr-scaling none --no-tensorboard".split()
KINDS = {
    "plain": "--staleness sequential --overlap never",
    "threads": "--staleness exact --overlap always",
    "predictive": "--staleness 2 --overlap never --mitigation predictive",
    "static": "--staleness sequential --overlap never --static-dim 2 --static-epochs 1",
    "emulated": "--parallel 1x2x1 --emulate --epochs 4",
    "two processes": "--parallel 1x2x1 --epochs 4",
}


class Runs:
    """Runs of one kind, in processes of their own.

    Args:
        kind: The kind.
        folder: Has the stream, and gets the runs.
    """

    def __init__(self, kind, folder):
        self.folder = folder
        self.run, self.whole = folder / "run", folder / "whole"
        self.ranks = range(2 if kind == "two processes" else 1)
        self.flags = [folder / "events.npz", *COMMON, *KINDS[kind].split()]
        self.emulate = ["--emulate"] if kind == "emulated" else []
        self.kills = 0
        self.seconds = float("inf")
        self.go_on()
        self.run.rename(self.whole)

    def go_on(self, **dies):
        """Starts the run, or goes on with it where it has a checkpoint, and returns whether it was killed."""
        begin = ["train", *self.flags, "--out", "run"]
        command = ["resume", "run", *self.emulate] if (self.run / "last.pt").exists() else begin
        env = {"DIES": json.dumps(dies)}
        if len(self.ranks) > 1:
            processes = torchrun(2, DYING, *command, cwd=self.folder, check=False, env=env)
        else:
            processes = [Forked(DYING, *command, cwd=self.folder, env=env)]
        codes = [process.wait() for process in processes]
        killed = codes[dies.get("rank", 0)] == -signal.SIGKILL
        assert killed or set(codes) == {0}, (command, dies, [process.communicate() for process in processes])
        self.kills += killed
        if not killed:
            self.seconds = min(self.seconds, float((self.folder / "seconds").read_text()))
        return killed

    def check(self):
        """Lets the run go on to its end, asserts that it is the one that nothing happened to, and removes it."""
        self.go_on()
        files = {path.name for path in self.whole.iterdir()}
        assert {path.name for path in self.run.iterdir()} == files
        assert read_log(self.run) == read_log(self.whole)
        assert same(contents(self.run), contents(self.whole))
        for name in files - {"last.pt", "best.pt", "metrics.jsonl"}:
            assert same(load_checkpoint(self.run / name), load_checkpoint(self.whole / name)), name
        shutil.rmtree(self.run)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(kind, tmp_path, request):
    thorough, draws = request.config.getoption("--thorough"), random.Random(kind)
    data = synthetic(143, num_src=15, num_dst=15, msg_dim=2)
    np.savez(tmp_path / "events.npz", **{name: data[name].numpy() for name in ("src", "dst", "t", "msg")})
    runs = Runs(kind, tmp_path)
    for rank in runs.ranks:
        if not thorough:
            assert runs.go_on(rank=rank, moment=draws.randrange(24), seen=f"seen{rank}")
        while thorough and runs.go_on(rank=rank, moment=0, seen=f"seen{rank}"):
            pass
        for _ in range(5 if thorough else 1):
            if not runs.go_on(rank=rank, seconds=draws.uniform(0.0, runs.seconds)):
                runs.check()
        runs.check()
    print(f"{kind}: {runs.kills} kills")
    assert runs.kills > (30 if thorough else 0)
