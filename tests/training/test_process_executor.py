import pytest
from access_order import assert_in_order
from process_runs import PLANS, RESUMED, ProcessRuns, assert_equal_runs
from small_runs import losses, photographs, read_log, small_config, uneven_stream

from pyg_mspipe.distributed import EmulatedExecutor, ParallelPlan, SweepSchedule
from pyg_mspipe.timeline.trace import read_title, read_trace
from pyg_mspipe.training import Trainer, load_checkpoint


def in_the_middle(folder):
    """The photograph of the last checkpoint within a sweep."""
    return [each for each in photographs(folder) if load_checkpoint(each / "last.pt")["progress"]["batch"]][-1]


def before_the_middle(folder):
    """The photograph of the first checkpoint."""
    return photographs(folder)[0]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_train_as_one_that_emulates_them_under_delays_and_from_any_checkpoint(world, tmp_path):
    runs = ProcessRuns(tmp_path, uneven_stream())
    often = {"checkpoint_every": 5}
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
            assert checkpoint["progress"]["batch"] == 5
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
