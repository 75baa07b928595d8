"""What listeners are told, and in which order."""

import pytest
from small_runs import emulated, read_log, small_config, small_stream

from pyg_mspipe.training import (
    Advanced,
    BatchTrained,
    EpochDone,
    PartBegun,
    RunBegun,
    Saved,
    StagesDone,
    Trainer,
    load_checkpoint,
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    events = []
    folder = tmp_path_factory.mktemp("events") / "run"
    Trainer(small_stream(), small_config(staleness="2"), folder, listeners=[events.append]).fit()
    return events, folder


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_a_run_is_told_from_its_beginning_to_its_last_checkpoint(told):
    events, folder = told
    assert isinstance(events[0], RunBegun)
    assert events[0].config == small_config(staleness="2")
    assert events[-1] == Saved(folder / "last.pt")
    parts = [(event.part, event.epoch, event.total, event.done) for event in of(events, PartBegun)]
    assert parts == [("train", 0, 420, 0), ("validate", 0, 90, 0), ("train", 1, 420, 0), ("validate", 1, 90, 0)]


def test_each_batch_is_told_once_and_in_order(told):
    events, folder = told
    batches = of(events, BatchTrained)
    assert [(event.step, event.epoch, event.batch) for event in batches] == [(n, n // 11, n % 11) for n in range(22)]
    assert [event.loss for event in batches] == [x["loss"] for x in read_log(folder) if x["kind"] == "batch"]
    stages = of(events, StagesDone)
    assert [(event.step, event.batch, event.record.index) for event in stages] == [
        (n, n % 11, n % 11) for n in range(22)
    ]


def test_all_events_of_a_pass_are_told_as_done(told):
    events, _ = told
    done = []
    for event in events:
        if isinstance(event, PartBegun):
            done.append(0)
        elif isinstance(event, Advanced):
            done[-1] += event.events
    assert done == [420, 90, 420, 90]


def test_what_is_saved_is_there_when_it_is_told(tmp_path):
    steps = []

    def look(event):
        if isinstance(event, Saved):
            steps.append((event.path.name, load_checkpoint(event.path)["progress"]["batch"]))

    Trainer(small_stream(), small_config(epochs=1), tmp_path, listeners=[look]).fit()
    # Before and after validation; the first epoch is the best so far.
    assert steps == [("last.pt", 4), ("last.pt", 8), ("last.pt", 11), ("best.pt", 11), ("last.pt", 0)]


def test_an_epoch_is_told_with_the_metrics_that_the_log_has(told):
    events, folder = told
    lines = [line for line in read_log(folder) if line["kind"] == "epoch"]
    found = [(event.epoch, event.step, event.trained, event.loss, event.metrics.ap) for event in of(events, EpochDone)]
    assert found == [tuple(line[name] for name in ("epoch", "step", "trained", "loss", "ap")) for line in lines]


def test_an_emulation_tells_the_same_but_for_its_stages(tmp_path):
    kinds = []
    emulated(small_stream(), small_config(parallel="1x2x1"), listeners=[lambda event: kinds.append(type(event))]).fit()
    assert set(kinds) == {RunBegun, PartBegun, Advanced, BatchTrained, EpochDone}


def test_a_run_without_a_folder_saves_nothing_and_says_so():
    events = []
    Trainer(small_stream(), small_config(epochs=1), listeners=[events.append]).fit()
    assert not of(events, Saved)
