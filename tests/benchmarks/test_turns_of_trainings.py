import numpy as np
import pytest

from benchmarks.harness.turns import PacedTraining, take_turns


@pytest.fixture
def stream(tmp_path):
    random = np.random.default_rng(0)
    nodes = random.integers(0, 50, (2, 2000))
    np.savez(tmp_path / "stream.npz", src=nodes[0], dst=nodes[1] + 50, t=np.arange(2000))
    return str(tmp_path / "stream.npz")


def test_trainings_go_on_turn_after_turn_past_the_end_of_their_epochs(stream):
    # An epoch of 1,400 events has 28 batches, so that every other turn is a shorter one.
    rows = {"one": [PacedTraining(stream, "1x1x1", 50)], "two": [PacedTraining(stream, "1x1x2", 50)]}
    rates = list(take_turns(rows, 5))
    assert [list(each) for each in rates] == 5 * [["one", "two"]]
    assert all(rate > 0 for each in rates for (rate,) in each.values())


def test_a_training_that_fails_says_why_and_ends_the_others(stream):
    rows = {"good": [PacedTraining(stream, "1x1x1", 50)], "bad": [PacedTraining("missing.npz", "1x1x1", 50)]}
    with pytest.raises(RuntimeError, match=r"missing\.npz"):
        list(take_turns(rows, 1))
