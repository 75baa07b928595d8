"""A change of structure changes no number: losses and metrics are those on record, bit for bit on the same machine."""

import json

import pytest
from runs import PROCESSES, RECORD, RUNS, SAME, machine, train, train_in_processes, train_with_a_kill, write_stream

RECORDED = json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp("golden") / "events.npz")


def assert_recorded(found, name):
    expected = RECORDED["runs"][SAME.get(name, name)]
    if RECORDED["machine"] == machine():
        assert found == expected
        return
    # Another processor rounds otherwise, and a step carries on what the one before has rounded.
    assert len(found["losses"]) == len(expected["losses"])
    assert found["losses"] == pytest.approx(expected["losses"], rel=2e-3)
    for one, other in zip(found["validation"], expected["validation"], strict=True):
        assert one == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_those_on_record(events, tmp_path, name):
    assert_recorded(train(events, tmp_path / "run", *RUNS[name].split()), name)


@pytest.mark.parametrize("plan", PROCESSES)
def test_losses_of_two_processes_are_those_on_record(events, tmp_path, plan):
    assert_recorded(train_in_processes(events, tmp_path / "run", plan), f"emulated-{plan}")


def test_losses_after_a_kill_and_a_resume_are_those_on_record(events, tmp_path):
    assert_recorded(train_with_a_kill(events, tmp_path / "run"), "plain")


def test_the_record_has_no_run_that_learns_nothing():
    for each in RECORDED["runs"].values():
        assert sum(each["losses"][-10:]) < sum(each["losses"][:10])
