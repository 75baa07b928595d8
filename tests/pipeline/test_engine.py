import random
import threading
import time

import pytest
import torch
from engine_runs import BATCH, StoredTraining, Training, assert_same_run, own_threads, stream
from tied_stream import tied_stream
from torch_geometric.nn.models.tgn import MeanAggregator

from pyg_mspipe.data import MappedFeatures, write_features
from pyg_mspipe.pipeline import PipelineEngine, PipelineError

CPU = torch.device("cpu")

CASES = {
    "one hop": ({}, Training, {}),
    "two hops": ({}, Training, {"hops": (4, 4)}),
    "one kind of node": ({"bipartite": False}, Training, {}),
    "stored messages": ({"bipartite": False}, StoredTraining, {}),
    "mean aggregator": ({}, StoredTraining, {"aggregator": MeanAggregator()}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_exact_equals_sequential_bit_for_bit_whatever_the_timing(case, seed):
    kind, training, options = CASES[case]
    data = stream(**kind)
    reference = training(data, **options).run("sequential")
    overlapped = training(data, **options).run("exact", seed=seed)
    assert_same_run(overlapped, reference)
    assert {record.staleness for record in overlapped.records} == {0}


def test_exact_forwards_commits_that_the_fetch_missed():
    slow = Training(stream()).run("exact", seed=0, longest={"update": 0.02, "fetch": 0.0})
    assert max(record.index - record.fetched for record in slow.records) >= 1
    assert_same_run(slow, Training(stream()).run("sequential"))


@pytest.mark.parametrize("hops", [(5,), (4, 4)], ids=["one hop", "two hops"])
def test_exact_with_features_in_a_file_is_sequential_with_them_in_memory(hops, tmp_path):
    data, bare = tied_stream(), tied_stream(msg_dim=0)
    reference = Training(data, hops).run("sequential")
    write_features(tmp_path / "msg.npy", data.msg)
    for seed in range(2):
        store = MappedFeatures(tmp_path / "msg.npy")
        overlapped = Training(bare, hops, store).run("exact", seed=seed, longest={"update": 0.02}, overlap=True)
        assert max(record.index - record.fetched for record in overlapped.records) > 0
        assert_same_run(overlapped, reference)


def test_a_bound_of_zero_equals_sequential():
    assert_same_run(Training(stream()).run(0, seed=4), Training(stream()).run("sequential"))


@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 0, 1, 2, 4])
def test_staleness_stays_within_its_bound_and_commits_go_in_order_and_once(staleness):
    data = stream(400)
    for seed in range(1 if staleness == "sequential" else 10):
        longest = dict.fromkeys(("sample", "gather", "fetch", "update"), 0.001) | {
            random.Random(seed).choice(["sample", "gather", "fetch", "update"]): 0.008
        }
        training = Training(data).run(staleness, seed=seed, longest=longest)
        assert [record.index for record in training.records] == list(range(8))
        assert all(0 <= record.staleness <= record.bound for record in training.records)
        if isinstance(staleness, int):
            assert {record.bound for record in training.records} == {staleness}
        assert training.applied == list(range(8))


@pytest.mark.parametrize("bound", [1, 2, 3, 4])
def test_a_fixed_bound_uses_its_staleness_when_updates_are_slow(bound):
    training = Training(stream(700))
    fetched = [threading.Event() for _ in range(14)]

    state = training.state
    fetch = state.fetch

    def noted_fetch(batch, *, mitigated):
        rows = fetch(batch, mitigated=mitigated)
        fetched[batch.events.start // BATCH].set()
        return rows

    def slow_update(commit):
        """Begins when the last batch that may miss the commit has been fetched."""
        last = training.number_of(commit) + bound
        if last < len(fetched):
            fetched[last].wait()

    state.fetch, state.await_apply = noted_fetch, slow_update
    training.model.train()
    for flight in PipelineEngine(training.batches, state, device=CPU, staleness=bound):
        training.step(flight)
        assert flight.record.staleness == min(bound, flight.index)


@pytest.mark.parametrize("stage", ["sample", "gather", "fetch", "update"])
@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 2])
def test_a_failing_stage_is_named_and_leaves_no_thread(stage, staleness):
    training = Training(stream())
    error = OSError("the disk is gone")
    with pytest.raises(PipelineError, match=rf"stage {stage}, batch 11: OSError: the disk is gone") as caught:
        training.run(staleness, seed=0, fails=(stage, 11, error))
    assert caught.value.__cause__ is error
    assert (caught.value.stage, caught.value.batch) == (stage, 11)
    assert not own_threads()
    done = len(training.losses) if stage != "update" else 11
    assert training.applied == list(range(done)), "what was trained is committed, and nothing else"


def test_an_interrupt_in_a_stage_reaches_the_consumer_as_one():
    training = Training(stream())
    with pytest.raises(KeyboardInterrupt):
        training.run("exact", seed=0, fails=("gather", 5, KeyboardInterrupt()))
    assert not own_threads()


@pytest.mark.parametrize("staleness", ["exact", "minimal", 3])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_leaving_early_commits_what_was_trained_and_leaves_no_thread(staleness, after):
    training = Training(stream())
    training.model.train()
    for flight in training.engine(staleness, seed=1):
        training.step(flight)
        if flight.index == after:
            break
    assert not own_threads()
    assert training.state.span.end == (after + 1) * BATCH
    training.state.clear(0)  # the memory is free again


def test_an_error_in_training_leaves_no_thread():
    training = Training(stream())
    training.model.train()

    def train():
        for flight in training.engine("exact", seed=1):
            training.step(flight)
            if flight.index == 3:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert not own_threads()
    assert training.state.span.end == 4 * BATCH


def test_memory_is_bounded_by_the_prefetch():
    training = Training(stream())
    training.model.train()
    drawn, ahead = [], []
    draw = training.batches.draw

    def noted(events, epoch, index):
        drawn.append(index)
        return draw(events, epoch, index)

    training.batches.draw = noted
    for flight in training.engine("minimal", prefetch=2):
        time.sleep(0.01)
        ahead.append(max(drawn) - flight.index)
        training.step(flight)
    assert max(ahead) <= 2


def test_a_pass_can_begin_in_the_middle():
    whole = Training(stream()).run("sequential")
    parts = Training(stream())
    parts.model.train()
    for flight in parts.engine("exact"):
        parts.step(flight)
        if flight.index == 8:
            break
    for flight in parts.engine("exact", first=9, seed=3):
        parts.step(flight)
    assert_same_run(parts, whole)


def test_reading_the_memory_state_in_between_waits_for_the_commits():
    states = []
    for staleness in ("sequential", "exact"):
        training = Training(stream())
        training.model.train()
        for flight in training.engine(staleness, seed=2, longest={"update": 0.02}):
            training.step(flight)
            states.append(training.memory_state()["memory"])
    assert all(torch.equal(one, other) for one, other in zip(states[:20], states[20:], strict=True))


def test_a_batch_without_an_update_commits_nothing():
    training = Training(stream())
    training.model.train()
    for flight in training.engine("exact", seed=0):
        if flight.index % 2:
            training.step(flight)
    assert len(training.applied) == 10


def test_two_updates_of_a_batch_and_two_pipelines_on_a_memory_are_refused():
    training = Training(stream())
    training.model.train()
    flights = iter(training.engine("exact"))
    flight = next(flights)
    training.step(flight)
    with pytest.raises(RuntimeError, match="twice for batch 0"):
        training.step(flight)
    with pytest.raises(RuntimeError, match="finish or close"):
        next(iter(training.engine("exact")))
    with pytest.raises(RuntimeError, match="cleared while a pipeline is running"):
        training.state.clear(0)
    flights.close()
    assert not own_threads()


def test_every_stage_of_every_batch_is_on_record():
    training = Training(stream()).run("minimal", seed=0)
    for record in training.records:
        assert set(record.begin) == set(record.finish) == {"sample", "gather", "fetch", "train", "update"}
        order = [record.finish[name] for name in ("sample", "gather", "fetch")]
        assert order == sorted(order)
        assert record.finish["fetch"] <= record.begin["train"] <= record.rows_at <= record.finish["train"]
        assert record.rows_at <= record.begin["update"]
