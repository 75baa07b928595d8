"""A change of structure changes no number: losses and metrics are those on record, bit for bit on the same machine."""

import json
from statistics import fmean

import pytest
from golden_runs import (
    PROCESSES,
    RECORD,
    RUNS,
    SAME,
    machine,
    train,
    train_in_processes,
    train_with_a_kill,
    write_stream,
)

RECORDED = json.loads(RECORD.read_text())
ON_RECORD = RECORDED["machine"] == machine()


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("golden") / "events.npz")


@pytest.fixture(scope="module")
def expected(events, tmp_path_factory):
    """The numbers of a run: those on record, or on another machine its own."""
    made = {}

    def of(name):
        if ON_RECORD:
            return RECORDED["runs"][name]
        if name not in made:
            made[name] = train(events, tmp_path_factory.mktemp(name) / "run", *RUNS[name].split())
        return made[name]

    return of


def assert_near_the_record(found, name):
    """Another processor rounds otherwise, and training carries on what it has rounded until nothing is the same."""
    recorded = RECORDED["runs"][name]
    assert len(found["losses"]) == len(recorded["losses"])
    assert found["losses"][:3] == pytest.approx(recorded["losses"][:3], rel=0.01)
    assert fmean(found["losses"]) == pytest.approx(fmean(recorded["losses"]), rel=0.03)


@pytest.mark.parametrize("name", [name for name in RUNS if name not in SAME])
def test_losses_are_those_on_record(events, tmp_path, name):
    found = train(events, tmp_path / "run", *RUNS[name].split())
    if ON_RECORD:
        assert found == RECORDED["runs"][name]
    else:
        assert_near_the_record(found, name)


@pytest.mark.parametrize("name", SAME)
def test_overlapped_runs_give_the_losses_of_sequential_ones(events, expected, tmp_path, name):
    assert train(events, tmp_path / "run", *RUNS[name].split()) == expected(SAME[name])


@pytest.mark.parametrize("plan", PROCESSES)
def test_two_processes_give_the_losses_of_their_emulation(events, expected, tmp_path, plan):
    assert train_in_processes(events, tmp_path / "run", plan) == expected(f"emulated-{plan}")


def test_losses_after_a_kill_and_a_resume_are_those_without(events, expected, tmp_path):
    assert train_with_a_kill(events, tmp_path / "run") == expected("plain")


def test_the_record_has_no_run_that_learns_nothing():
    for each in RECORDED["runs"].values():
        assert sum(each["losses"][-10:]) < sum(each["losses"][:10])
