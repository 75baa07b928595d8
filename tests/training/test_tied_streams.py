"""Streams with tied times, self-loops and nodes in both roles, with and without features."""

import time

import pytest
import torch
from process_runs import PAIRS, ProcessRuns, assert_equal_runs
from small_runs import contents, losses, read_log, same, small_config
from tied_stream import tied_stream

from pyg_mspipe import load_stream
from pyg_mspipe.distributed import ParallelPlan
from pyg_mspipe.memory import RowState
from pyg_mspipe.training import StagesDone, Trainer

STREAMS = "generated", "without features", "enron"


@pytest.fixture(scope="module")
def streams(request):
    """Streams by name; the real one only where it is there."""
    found = {"generated": tied_stream(), "without features": tied_stream(msg_dim=0)}
    try:
        folder = request.getfixturevalue("shared_data")
    except pytest.skip.Exception:
        return found
    return found | {"enron": load_stream(folder / "enron.npz")[:2000]}


@pytest.fixture
def late_updates(monkeypatch):
    """Commits land so late that rows fetched early have missed some."""
    monkeypatch.setattr(RowState, "await_apply", lambda self, commit: time.sleep(0.005))


def stream_named(streams, name):
    return streams[name] if name in streams else pytest.skip(f"no stream {name}")


@pytest.mark.parametrize("name", STREAMS)
def test_the_streams_have_ties_self_loops_and_nodes_in_both_roles(streams, name):
    data = stream_named(streams, name)
    assert (data.t[1:] == data.t[:-1]).float().mean() > 0.7
    assert (data.src == data.dst).sum() > 10
    assert torch.isin(data.src, data.dst).float().mean() > 0.5
    assert (data.msg.size(1) == 0) == (name != "generated")


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "cut_off": "event"}], ids=["one layer", "two, event cut-off"])
@pytest.mark.parametrize("name", STREAMS)
def test_exact_training_with_threads_is_sequential_training_bit_for_bit(
    streams, name, settings, tmp_path, late_updates
):
    data, missed = stream_named(streams, name), []

    def note(event):
        if isinstance(event, StagesDone):
            missed.append(event.record.index - event.record.fetched)

    few = {"batch_size": 70, "threads": 1} | settings
    one, other = tmp_path / "sequential", tmp_path / "exact"
    Trainer(data, small_config(staleness="sequential", **few), one).fit()
    Trainer(data, small_config(staleness="exact", overlap="always", **few), other, listeners=[note]).fit()
    assert max(missed) > 0
    assert losses(one) == losses(other)
    assert read_log(one)[1:] == read_log(other)[1:]
    for file in ("last.pt", "best.pt"):
        both = [contents(folder)[file] for folder in (one, other)]
        for each in both:
            each.pop("config")
        assert same(*both), file


@pytest.mark.parametrize("world", [2, 4])
def test_every_plan_of_processes_trains_as_its_emulation(streams, world, tmp_path):
    data = streams.get("enron", streams["generated"])[:1000]
    runs, expected, trained = ProcessRuns(tmp_path, data), {}, {}
    for plan in PAIRS[world]:
        size = ParallelPlan.parse(plan)
        # As many events in a batch of all parts whatever the plan.
        few = {"epochs": size.epochs_per_sweep, "batch_size": 120 // size.minibatch}
        few |= {"checkpoint_every": 0}
        expected[plan] = runs.emulated("tied", plan, **few)
        trained[plan] = runs.add("tied", plan, overlap="always", delays=7, **few)
    runs.start(world)
    for plan, folder in trained.items():
        assert_equal_runs(folder, expected[plan], plan)
