import json
from pathlib import Path

import pytest
from access_order import assert_in_order
from processes import torchrun
from pyg_mspipe.distributed.turns import AccessRecord
from pyg_mspipe.pipeline.timeline import read_title, read_trace
from small_runs import (
    contents,
    emulated,
    losses,
    photograph,
    photographs,
    read_log,
    same,
    small_config,
    uneven_stream,
)

from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan, SweepSchedule
from pyg_mspipe.training import Trainer, load_checkpoint

WORKER = Path(__file__).with_name("distributed_worker.py")
PLANS = {
    1: ["1x1x1"],
    2: ["2x1x1", "1x2x1", "1x1x2"],
    4: ["4x1x1", "1x4x1", "1x1x4", "2x2x1", "2x1x2", "1x2x2"],
}
RESUMED = {1: ["1x1x1"], 2: PLANS[2], 4: ["2x2x1", "1x2x2"]}


class Runs:
    """Emulated runs and those of several processes, all of the latter in one start."""

    def __init__(self, folder):
        self.folder = folder
        self.data = uneven_stream()
        self.jobs = []

    def settings(self, plan, **settings):
        j, k = (int(number) for number in plan.split("x")[1:])
        few = {"batch_size": 35, "parallel": plan, "lr_scaling": "none", "threads": 1, "timeout": 30.0}
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
        if resume is not None:
            job["resume"] = str(folder / "last.pt")
        if delays is not None:
            job["delays"] = delays
        self.jobs.append(job)
        return folder

    def start(self, world):
        (self.folder / "turns").mkdir()
        (self.folder / "jobs.json").write_text(json.dumps(self.jobs))
        torchrun(WORKER, world, self.folder / "jobs.json", self.folder / "turns")

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


def in_the_middle(folder):
    """The photograph of the last checkpoint within a sweep."""
    return [each for each in photographs(folder) if load_checkpoint(each / "last.pt")["progress"]["batch"]][-1]


def before_the_middle(folder):
    """The photograph of the first checkpoint."""
    return photographs(folder)[0]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_train_as_one_that_emulates_them_under_delays_and_from_any_checkpoint(world, tmp_path):
    runs = Runs(tmp_path)
    often = {"checkpoint_every": 3}
    expected = {plan: runs.emulated("whole", plan, **often) for plan in PLANS[world]}
    plain = {plan: runs.add("never", plan, overlap="never", photographs=True, **often) for plan in PLANS[world]}
    # Without checkpoints within a sweep, so that all of it is trained in one go.
    trace = {plan: tmp_path / f"{plan}.json" for plan in PLANS[world]}
    drawn = {"overlap": "always", "delays": 7, "checkpoint_every": 0}
    delayed = {plan: runs.add("always", plan, timeline=str(trace[plan]), **drawn) for plan in PLANS[world]}
    resumed = {}
    for plan in RESUMED[world]:
        own, emulated = runs.folder / plan / "never" / "at-1", in_the_middle(expected[plan])
        resumed[plan] = [runs.add("", plan, resume=folder, overlap="always", **often) for folder in (own, emulated)]
    static = {"static_dim": 6, "static_epochs": 1}
    last = PLANS[world][-1]
    expected_static, with_static = runs.emulated("static", last, **static), runs.add("static", last, **static)
    runs.start(world)

    for plan in PLANS[world]:
        assert_equal_runs(plain[plan], expected[plan], plan)
        assert losses(delayed[plan]) == losses(expected[plan]), plan
        assert read_log(delayed[plan])[1:] == read_log(expected[plan])[1:], plan
        for folder in resumed.get(plan, []):
            assert_equal_runs(folder, expected[plan], f"{plan} resumed")
        if plan in resumed:
            folder = before_the_middle(plain[plan])
            checkpoint = load_checkpoint(folder / "last.pt")
            assert checkpoint["progress"]["batch"] == 3
            Trainer.resume(runs.data, checkpoint, folder, executor=EmulatedExecutor()).fit()
            assert_equal_runs(folder, expected[plan], f"{plan} resumed by one process")
        sizes = ParallelPlan.parse(plan)
        batches = -(-421 // (35 * sizes.minibatch))
        for folder in (plain[plan], delayed[plan]):
            sweeps = runs.turns(folder, plan)
            whole = runs.settings(plan)["epochs"] // sizes.epochs_per_sweep
            assert len(sweeps) == (whole if sizes.group_size > 1 else 0)
            for records in (records for groups in sweeps for records in groups):
                assert_in_order(SweepSchedule(sizes, batches), records)
        for rank in range(world):
            path = trace[plan].with_name(f"{plan}.rank{rank}.json") if rank else trace[plan]
            assert read_title(path) == f"staleness exact, rank {rank} of plan {plan}"
            assert len(read_trace(path)) > 1
    assert_equal_runs(with_static, expected_static, "static node memory")
    assert losses(with_static) != losses(expected[last])
    if world == 1:
        alone = tmp_path / "alone" / "run"
        Trainer(runs.data, small_config(**runs.settings("1x1x1", **often)), alone).fit()
        assert_equal_runs(plain["1x1x1"], alone, "one process")
