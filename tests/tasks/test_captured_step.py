"""Recorded steps, with a record that does the work again each time, as there is no graph on a CPU."""

import copy
from dataclasses import replace

import pytest
import torch

from pyg_mspipe import TrainConfig, Trainer, synthetic
from pyg_mspipe.models import TGN
from pyg_mspipe.tasks import captured_step
from pyg_mspipe.tasks.captured_step import CapturedSteps, eager_step
from pyg_mspipe.training.single import padding_for

SIZES = {"memory_dim": 8, "time_dim": 8, "embedding_dim": 8, "num_neighbors": 4, "threads": 1}


@pytest.fixture
def replays(monkeypatch):
    """How often anything was replayed."""
    count = []

    def record(work, stream, pool=None):
        def replay():
            count.append(work.__name__)
            return work()

        return replay, None

    monkeypatch.setattr(captured_step, "record", record)
    return count


class Steps:
    """Training steps on padded batches."""

    def __init__(self, model="tgn"):
        data = synthetic(500, num_src=30, num_dst=20, msg_dim=4)
        named = model if isinstance(model, str) else "tgn"
        config = TrainConfig(batch_size=20, device="cpu", model=named, **SIZES)
        self.trainer = Trainer(data, config, model=None if isinstance(model, str) else model)
        self.objective, self.optimizer = self.trainer.objective, self.trainer.optimizer
        self.batches = self.trainer._job.train
        self.batches.finish = padding_for(self.batches)
        self.state = self.objective.model.state

    def captured(self):
        return CapturedSteps(self.objective, self.optimizer, 20, stream=None)

    def eager(self, batch, commit):
        return eager_step(self.objective, self.optimizer, batch, commit)

    def losses(self, step, which):
        found = []
        for index in which:
            batch = self.batches.read(0, index)
            rows = self.state.fetch(batch)
            found.append(step(batch.with_rows(rows), self.state.apply).item())
        return found


@pytest.mark.parametrize("model", ["tgn", "jodie", "dyrep", "apan", "tgat"])
def test_replayed_steps_are_steps(replays, model):
    one, other = Steps(model), Steps(model)
    which = range(len(one.batches))
    torch.manual_seed(0)
    expected = other.losses(other.eager, which)
    torch.manual_seed(0)
    assert one.losses(one.captured(), which) == expected
    assert replays.count("_make_rows") == replays.count("_learn") >= 8
    for x, y in zip(one.state.tables.values(), other.state.tables.values(), strict=True):
        assert torch.equal(x, y)


def test_the_last_batch_of_an_epoch_is_not_recorded(replays):
    steps = Steps()
    captured, last = steps.captured(), len(steps.batches) - 1
    assert len(steps.batches.events_of(last)) < 20
    steps.losses(captured, [last] * 6)
    assert not replays


@pytest.mark.parametrize("name", ["lr", "eps"])
def test_other_settings_of_the_optimizer_are_recorded_anew(replays, name):
    one, other = Steps(), Steps()
    found, expected = [], []
    for steps, step, losses in ((one, one.captured(), found), (other, other.eager, expected)):
        torch.manual_seed(0)
        losses += steps.losses(step, range(8))
        steps.optimizer.param_groups[0][name] *= 10
        losses += steps.losses(step, range(8, 14))
    assert found == expected


def test_a_loaded_optimizer_is_not_that_of_steps_recorded_before(replays):
    one, other = Steps(), Steps()
    for steps, step in ((one, one.captured()), (other, other.eager)):
        torch.manual_seed(0)
        steps.losses(step, range(8))
        steps.optimizer.load_state_dict(copy.deepcopy(steps.optimizer.state_dict()))
        steps.last = steps.losses(step, range(8, 14))
    assert one.last == other.last
    counts = [next(iter(each.optimizer.state.values()))["step"].item() for each in (one, other)]
    assert counts == [14, 14]


class ReadsEvents(TGN):
    """Reads a number of its batch that is no tensor's."""

    paddable = True

    def forward(self, batch):
        z = super().forward(batch)
        return z * (1 if batch.events.stop else 0)


class ReadsStart(TGN):
    """Likewise."""

    paddable = True

    def forward(self, batch):
        return super().forward(batch) + 0.0 * batch.events.start


@pytest.mark.parametrize("model", [ReadsEvents, ReadsStart])
def test_a_model_that_reads_the_events_numbers_cannot_be_recorded(monkeypatch, model):
    monkeypatch.setattr(captured_step, "record", lambda work, stream, pool=None: (lambda: work(), work()))
    steps = Steps(model)
    with pytest.raises(
        RuntimeError, match=r"cannot be recorded as a CUDA graph: .*; let the model say paddable = False"
    ):
        steps.losses(steps.captured(), range(10))


class CommitsAll(TGN):
    """Commits nodes beside the ends."""

    def commit(self, batch):
        made = super().commit(batch)
        return replace(made, n_id=made.n_id.flip(0), rows={name: x.flip(0) for name, x in made.rows.items()})


def test_commits_of_other_nodes_are_refused_on_padded_batches():
    steps = Steps(CommitsAll)
    with pytest.raises(RuntimeError, match="commits other nodes than the ends of the batch's events"):
        steps.losses(steps.eager, [3])
