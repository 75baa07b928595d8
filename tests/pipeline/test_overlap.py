"""Where stages run: beside training, or in line with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_runs import Training, assert_same_run, own_threads, stream

from pyg_mspipe.pipeline import BatchRecord, PipelineError
from pyg_mspipe.pipeline.overlap import TRIAL, free_cores, hides_waiting

NUM_BATCHES = 20


@pytest.fixture
def all_cores_train(monkeypatch):
    monkeypatch.setattr("pyg_mspipe.pipeline.engine.free_cores", lambda: 0)


SHARES = """
import sys, time
import torch
from pyg_mspipe.pipeline.overlap import busy_clock

def waited(work):
    busy, start = busy_clock(), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return 1 - busy() / wall

def compute():
    for _ in range(60):
        x.cos()

torch.set_num_threads(2)
x = torch.randn(1_000_000)
compute()
print(waited(compute), waited(lambda: time.sleep(1)))
"""


@pytest.fixture
def busy_machine():
    """Loops on the core that the test gets, so that whatever is to compute waits for it; that is not what counts.

    Gives what ends them. The other cores are left to other tests.
    """
    if not Path("/proc/thread-self/schedstat").exists():
        pytest.skip("this system does not tell what a thread has waited for a core")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})  # of this thread, and so of all that it starts
    loops = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(3)]

    def end():
        for loop in loops:
            loop.kill()
            loop.wait()

    yield end
    end()
    os.sched_setaffinity(0, cores)


def run_and_watch(staleness, after_trial=lambda: None, **options):
    """Trains a pass and returns it with the batches beside which stage threads were alive."""
    training, beside = Training(stream()), []
    training.model.train()
    training.engine_used = training.engine(staleness, **options)
    for flight in training.engine_used:
        if own_threads():
            beside.append(flight.index)
        if flight.index == TRIAL + 2:
            after_trial()
        training.step(flight)
    assert not own_threads()
    assert [record.index for record in training.records] == list(range(NUM_BATCHES))
    return training, beside


@pytest.mark.usefixtures("all_cores_train")
@pytest.mark.parametrize("staleness", ["exact", "minimal", 0])
def test_without_a_core_to_spare_stages_that_compute_run_in_line(busy_machine, staleness):
    training, beside = run_and_watch(staleness, after_trial=busy_machine)
    assert beside == []
    assert training.engine_used.overlap is False
    assert_same_run(training, Training(stream()).run("sequential"))


@pytest.mark.usefixtures("all_cores_train")
@pytest.mark.parametrize("staleness", ["exact", "minimal", 2])
def test_without_a_core_to_spare_stages_that_wait_run_beside_training_after_a_trial(staleness):
    training, beside = run_and_watch(staleness, seed=0, longest={"gather": 0.1})
    assert beside == list(range(TRIAL, NUM_BATCHES))
    assert training.engine_used.overlap is True
    assert all(record.staleness <= record.bound for record in training.records)
    if staleness == "exact":
        assert_same_run(training, Training(stream()).run("sequential"))


@pytest.mark.parametrize("staleness", ["exact", "minimal", 2])
def test_with_a_core_to_spare_stages_run_beside_training_from_the_first_batch(staleness):
    _, beside = run_and_watch(staleness)
    assert beside == list(range(NUM_BATCHES))


@pytest.mark.usefixtures("all_cores_train")
def test_what_was_found_out_before_is_kept_to():
    assert run_and_watch("exact", overlap=True)[1] == list(range(NUM_BATCHES))
    assert run_and_watch("exact", overlap=False, seed=0, longest={"gather": 0.02})[1] == []
    assert run_and_watch("sequential", overlap=True)[1] == []


@pytest.mark.usefixtures("busy_machine")
def test_a_thread_that_sleeps_while_another_waits_for_a_core_is_told_from_one_that_waits_for_a_disk():
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", SHARES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    computing, sleeping = map(float, done.stdout.split())
    assert computing < 0.2
    assert sleeping > 0.5


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_in_line_a_fixed_bound_is_used_by_every_batch(bound):
    training, _ = run_and_watch(bound, overlap=False)
    assert [record.staleness for record in training.records] == [min(i, bound) for i in range(NUM_BATCHES)]
    assert {record.bound for record in training.records} == {bound}
    assert training.applied == sorted(training.applied)
    assert training.applied == list(range(NUM_BATCHES))


def test_in_line_a_stale_batch_trains_on_the_numbers_that_threads_give_it():
    in_line, _ = run_and_watch(2, overlap=False)
    # So slow that every batch misses as much as it may.
    threads, _ = run_and_watch(2, overlap=True, seed=0, longest={"update": 0.06, "sample": 0, "gather": 0, "fetch": 0})
    trained_alike = 0
    for one, other in zip(in_line.records, threads.records, strict=True):
        if one.staleness != other.staleness:
            break
        trained_alike += 1
    assert trained_alike > 2
    assert in_line.losses[:trained_alike] == threads.losses[:trained_alike]


@pytest.mark.parametrize("stage", ["sample", "gather", "fetch", "update"])
@pytest.mark.parametrize("bound", [0, 2])
def test_in_line_a_failure_names_its_stage_and_batch_and_loses_no_commit(stage, bound):
    training = Training(stream())
    with pytest.raises(PipelineError, match=f"stage {stage}, batch 9: OSError: gone"):
        training.run(bound, overlap=False, seed=0, fails=(stage, 9, OSError("gone")))
    assert training.applied == sorted(training.applied)
    assert training.applied == list(range(9))


def test_in_line_breaking_out_applies_what_was_handed_over():
    training = Training(stream())
    training.model.train()
    batches = iter(training.engine(3, overlap=False))
    for _ in range(6):
        training.step(next(batches))
    assert len(training.applied) == 2  # the sixth, batch 5, sees commits 0 and 1
    batches.close()
    assert len(training.applied) == 6
    assert training.applied == sorted(training.applied)


def test_waiting_is_told_from_computing():
    def record(waits):
        every = ("sample", "gather", "fetch", "update")
        begin = dict.fromkeys(every, 0.0) | {"train": 0.01}
        finish = dict.fromkeys(every, 0.01) | {"train": 0.1}
        return BatchRecord(0, begin, finish, busy=dict.fromkeys(every, 0.01 - waits))

    assert not hides_waiting([record(0.0), record(0.0), record(0.01)])
    assert hides_waiting([record(0.005), record(0.005), record(0.0)])


def test_idle_cores_are_those_that_training_does_not_use():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    before = torch.get_num_threads()
    try:
        for threads in (1, cores, cores + 3):
            torch.set_num_threads(threads)
            assert free_cores() == max(0, cores - threads)
    finally:
        torch.set_num_threads(before)
