"""Runs of plans, each of several processes and of one that emulates them."""

import json
from pathlib import Path

import torch
from processes import torchrun
from small_runs import contents, emulated, losses, photograph, read_log, same, small_config

from pyg_mspipe.distributed import ParallelPlan
from pyg_mspipe.distributed.memory_turns import AccessRecord
from pyg_mspipe.training import load_checkpoint

WORKER = Path(__file__).with_name("distributed_worker.py")
PLANS = {
    1: ["1x1x1"],
    2: ["2x1x1", "1x2x1", "1x1x2"],
    4: ["4x1x1", "1x4x1", "1x1x4", "2x2x1", "2x1x2", "1x2x2"],
}
# Of four trainers those with two axes; that a single axis may have four is the concern of test_process_executor.
PAIRS = {2: PLANS[2], 4: ["2x2x1", "2x1x2", "1x2x2"]}
RESUMED = {1: ["1x1x1"], 2: PLANS[2], 4: ["2x2x1", "1x2x2"]}


class ProcessRuns:
    """Emulated runs on a stream and those of several processes, all of the latter in one start."""

    def __init__(self, folder, data):
        self.folder = folder
        self.data = data
        self.jobs = []

    def settings(self, plan, **settings):
        j, k = (int(number) for number in plan.split("x")[1:])
        few = {"batch_size": 35, "parallel": plan, "lr_scaling": "none", "threads": 1}
        return few | {"epochs": 2 * j * k if plan in RESUMED[1] + RESUMED[2] + RESUMED[4] else j * k} | settings

    def emulated(self, name, plan, **settings):
        folder = self.folder / plan / f"{name}-emulated" / "run"
        folder.parent.mkdir(parents=True)
        emulated(self.data, small_config(**self.settings(plan, **settings)), folder, listeners=[photograph]).fit()
        return folder

    def add(self, name, plan, *, photographs=False, resume=None, delays=None, **settings):
        folder = self.folder / plan / name / "run" if resume is None else resume
        if resume is None:
            folder.parent.mkdir(parents=True)
        job = {"folder": str(folder), "settings": self.settings(plan, **settings), "photographs": photographs}
        job["stream"] = str(self.folder / "stream.pt")
        if resume is not None:
            job["resume"] = str(folder / "last.pt")
        if delays is not None:
            job["delays"] = delays
        self.jobs.append(job)
        return folder

    def start(self, world):
        (self.folder / "turns").mkdir()
        torch.save(self.data.to_dict(), self.folder / "stream.pt")
        (self.folder / "jobs.json").write_text(json.dumps(self.jobs))
        torchrun(world, WORKER, self.folder / "jobs.json", self.folder / "turns")

    def turns(self, folder, plan):
        """All accesses to memory of a run, by sweep, each a list for each group."""
        number = [job["folder"] for job in self.jobs].index(str(folder))
        plan = ParallelPlan.parse(plan)
        sweeps = {}
        for seat in plan.seats():
            seen = {}
            for line in json.loads((self.folder / "turns" / f"{number}.rank{seat.rank}.json").read_text()):
                record = AccessRecord(**line)
                access = record.kind, record.position, record.part
                seen[access] = seen.get(access, -1) + 1
                sweep = sweeps.setdefault(seen[access], [[] for _ in range(plan.memory)])
                sweep[seat.group].append(record)
        return list(sweeps.values())


def assert_equal_runs(one, other, where):
    """The same losses and scores, and the same checkpoints; the settings may differ in what changes no number."""
    assert losses(one) == losses(other), where
    assert read_log(one)[1:] == read_log(other)[1:], where
    both = [contents(folder) for folder in (one, other)]
    for name in ("last.pt", "best.pt"):
        for each in both:
            each[name].pop("config")
        assert same(both[0][name], both[1][name]), (where, name)
    ranks = [{path.name: load_checkpoint(path) for path in folder.glob("last.*.rank*.pt")} for folder in (one, other)]
    assert same(*ranks), where
