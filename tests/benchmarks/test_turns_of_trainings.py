from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from processes import popen_forked

from benchmarks.harness import turns
from benchmarks.harness.turns import PacedTraining, take_turns


@pytest.fixture
def stream(tmp_path):
    random = np.random.default_rng(0)
    nodes = random.integers(0, 50, (2, 2000))
    np.savez(tmp_path / "stream.npz", src=nodes[0], dst=nodes[1] + 50, t=np.arange(2000))
    return str(tmp_path / "stream.npz")


def named_processes(text):
    """Returns the running processes that have a text among their arguments; none where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path] * (text.encode() in path.read_bytes())
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_trainings_go_on_turn_after_turn_past_the_end_of_their_epochs(stream, monkeypatch):
    started = []

    def start(command, **options):
        started.append(popen_forked(command, **options))
        return started[-1]

    monkeypatch.setattr(turns, "subprocess", SimpleNamespace(Popen=start))
    # An epoch of 1,400 events has 28 batches, so that every other turn is a shorter one.
    rows = {"one": [PacedTraining(stream, "1x1x1", 50)], "another": [PacedTraining(stream, "1x1x1", 50)]}
    rates = list(take_turns(rows, 5))
    assert [list(each) for each in rates] == 5 * [["one", "another"]]
    assert all(rate > 0 for each in rates for (rate,) in each.values())
    assert [process.poll() for process in started] == [0, 0]


def test_a_training_that_fails_says_why_and_ends_the_others(stream):
    rows = {"good": [PacedTraining(stream, "1x1x1", 50)], "bad": [PacedTraining("missing.npz", "1x1x1", 50)]}
    with pytest.raises(RuntimeError, match=r"missing\.npz"):
        list(take_turns(rows, 1))
    assert not named_processes(stream)
