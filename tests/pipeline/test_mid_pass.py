"""What a user does with the memory in the middle of a pass, and how a pass ends."""

import copy
import pickle
import threading
from types import SimpleNamespace

import pytest
import torch
from engine_runs import BATCH, StoredTraining, Training, assert_same_run, own_threads, stream
from torch_geometric.nn.models.tgn import MeanAggregator

from pyg_mspipe.pipeline import PipelineError

# Commits land so late that rows fetched early have missed some of them.
LATE = {"seed": 0, "longest": {"update": 0.02, "fetch": 0.0, "sample": 0.0, "gather": 0.0}}


def run(staleness, between, *, passes=1, make=None, **options):
    """Trains, and calls ``between`` after some of the batches."""
    training = (make or (lambda: StoredTraining(stream())))()
    training.model.train()
    for _ in range(passes):
        for flight in training.engine(staleness, **options):
            training.step(flight)
            if flight.index % 5 == 3:
                between(training)
    return training


def nothing(training):
    pass


def evaluate(training):
    training.model.eval()
    training.model.train()


def evaluate_and_restore(training):
    memory = training.memory
    state = memory.memory_state()
    memory.eval()
    memory.train()
    memory.load_memory_state(state)


def start_anew(training):
    memory = training.memory
    memory.load_memory_state(
        {name: torch.zeros_like(x) if x.is_floating_point() else x for name, x in memory.memory_state().items()}
    )


def note_state_dict(training):
    training.noted.append({name: x.clone() for name, x in training.model.state_dict().items()})


def note_copy(training):
    training.noted.append(dict(copy.deepcopy(training.model).state_dict()))


def note_memory(training):
    with torch.no_grad():
        training.noted.append({"z": training.memory(torch.arange(60))[0].clone()})


@pytest.mark.parametrize(
    "between", [evaluate, evaluate_and_restore, start_anew, note_state_dict, note_copy, note_memory]
)
def test_what_is_done_in_the_middle_of_a_pass_gives_the_numbers_of_sequential_training(between):
    exact = run("exact", between, **LATE)
    sequential = run("sequential", between)
    assert_same_run(exact, sequential)
    assert max(record.index - record.fetched for record in exact.records) > 0
    assert len(exact.noted) == len(sequential.noted)
    for one, other in zip(exact.noted, sequential.noted, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one if not name.endswith("_assoc"))


def test_memory_asked_for_after_the_update_has_it_as_without_a_pipeline():
    def read(training):
        training.noted.append(training.memory(training.nodes)[1].clone())

    def plain():
        training = StoredTraining(stream())
        training.model.train()
        training.nodes = torch.arange(60)
        return training

    piped, alone = run("sequential", read, make=lambda: plain()), plain()
    for index in range(len(alone.batches)):
        events = alone.batches.events_of(index)
        batch = alone.batches.gather(alone.batches.draw(events, 0, index))
        alone.step(SimpleNamespace(batch=batch))
        if index % 5 == 3:
            read(alone)
    assert alone.losses == piped.losses
    assert all(torch.equal(one, other) for one, other in zip(piped.noted, alone.noted, strict=True))


@pytest.mark.parametrize("aggregator", [None, MeanAggregator()])
def test_a_second_pass_without_a_reset_gives_the_numbers_of_sequential_training(aggregator):
    def make():
        return StoredTraining(stream(bipartite=False), aggregator=aggregator)

    assert_same_run(run("exact", nothing, passes=2, make=make, **LATE), run("sequential", nothing, passes=2, make=make))


@pytest.mark.parametrize("aggregator", [None, MeanAggregator()])
def test_messages_that_are_learned_and_float64_are_forwarded(aggregator):
    class Learned(StoredTraining):
        def __init__(self):
            super().__init__(stream(), aggregator=aggregator)
            self.memory.double()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def step(self, flight):
            batch, memory = flight.batch, self.memory
            z, _ = memory(batch.n_id)
            loss = (z * self.scale).square().mean()
            memory.update_state(batch.src, batch.dst, batch.t.int(), self.scale * batch.msg)
            loss.backward()
            self.losses.append(loss.item())
            memory.detach()

    exact = run("exact", nothing, make=Learned, **LATE)
    assert_same_run(exact, run("sequential", nothing, make=Learned))
    assert max(record.index - record.fetched for record in exact.records) > 0


@pytest.mark.parametrize(("staleness", "options"), [("exact", LATE), ("sequential", {}), (3, {"overlap": False})])
def test_leaving_early_reports_every_commit(staleness, options):
    training = Training(stream())
    training.model.train()
    for flight in training.engine(staleness, **options):
        training.step(flight)
        if flight.index == 9:
            break
    assert [record.index for record in training.records] == list(range(10))
    assert len(training.applied) == 10
    assert training.state.span.end == 10 * BATCH


def test_an_engine_is_for_one_pass():
    training = Training(stream())
    training.model.train()
    engine = training.engine("exact")
    for flight in engine:
        training.step(flight)
    with pytest.raises(RuntimeError, match="once; make another"):
        next(iter(engine))


def test_threads_that_cannot_all_be_started_are_none(monkeypatch):
    start, started = threading.Thread.start, []

    def fails(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(iter(Training(stream()).engine("exact")))
    assert len(started) == 2
    assert not own_threads()


def test_an_interrupt_while_threads_end_leaves_none(monkeypatch):
    training = Training(stream())
    training.model.train()
    batches = iter(training.engine("exact", **LATE))
    for _ in range(4):
        training.step(next(batches))
    join, interrupted = threading.Thread.join, []

    def interrupts_once(thread, timeout=None):
        if not interrupted:
            interrupted.append(thread)
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupts_once)
    with pytest.raises(KeyboardInterrupt):
        batches.close()
    assert not own_threads()
    assert len(training.applied) == 4
    assert training.state.span.end == 4 * BATCH


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(PipelineError("gather", 7, OSError("gone"))))
    assert (error.stage, error.batch, str(error)) == ("gather", 7, "stage gather, batch 7: OSError: gone")
