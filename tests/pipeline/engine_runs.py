"""Short passes of a TGN through the engine, for the tests of it."""

import random
import threading
import time

import torch

from pyg_mspipe import TGN, Batches, NegativeSampler, NeighborSampler, TemporalCSR, synthetic
from pyg_mspipe.pipeline import PipelineEngine, default_stages
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step

BATCH = 50


class Delayed:
    """A stage that takes a random time, and fails at one batch if told so."""

    def __init__(self, stage, seed, longest, fails_at=None, error=None):
        self.stage, self.random, self.longest = stage, random.Random(f"{seed} {stage.name}"), longest
        self.name, self.requires, self.adds = stage.name, stage.requires, stage.adds
        self.fails_at, self.error = fails_at, error

    def __call__(self, flight):
        time.sleep(self.random.random() * self.longest)
        if flight.index == self.fails_at:
            raise self.error
        self.stage(flight)


class Training:
    """A TGN trained through the engine for one pass."""

    def __init__(self, data, hops=(5,), aggregator=None):
        torch.manual_seed(0)
        num_nodes = int(torch.maximum(data.src, data.dst).max()) + 1
        self.model = TGN(
            num_nodes,
            data.msg.size(1),
            memory_dim=8,
            time_dim=8,
            embedding_dim=8,
            num_layers=len(hops),
            aggregator_module=aggregator,
        )
        self.objective = Objective(self.model, LinkPrediction(8))
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=1e-2)
        sampler = NeighborSampler(TemporalCSR.from_stream(data, num_nodes), list(hops))
        negatives = NegativeSampler.from_destinations(data.dst, seed=1)
        self.batches = Batches(data, range(data.num_events), BATCH, sampler, negatives)
        self.losses, self.records, self.applied = [], [], []

    def step(self, batch):
        self.losses.append(train_step(self.objective, batch, [self.optimizer], commit=self.model.commit).item())

    def engine(self, staleness, *, seed=None, longest=None, fails=None, **options):
        """An engine whose stages take random times: up to ``longest[name]`` seconds."""
        stages = default_stages(self.batches, self.model.memory)
        name, batch, error = fails or (None, None, None)
        if seed is not None:
            times = dict.fromkeys(("sample", "gather", "fetch", "update"), 0.003) | (longest or {})
            stages = [Delayed(s, seed, times.get(s.name, 0), batch if s.name == name else None, error) for s in stages]
        apply_commit = self.model.memory.apply_commit

        def note(commit):
            self.applied.append(int(commit.t[0]))
            apply_commit(commit)

        self.model.memory.apply_commit = note
        return PipelineEngine(
            self.batches,
            self.model.memory,
            staleness=staleness,
            stages=stages,
            on_record=self.records.append,
            **options,
        )

    def run(self, staleness, **options):
        self.model.train()
        for flight in self.engine(staleness, **options):
            self.step(flight.batch)
        return self


def stream(num_events=1000, seed=0, **options):
    return synthetic(num_events=num_events, num_src=40, num_dst=20, msg_dim=3, seed=seed, **options)


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mspipe")]


def assert_same_run(one, other):
    assert one.losses == other.losses
    states = one.model.memory.memory_state(), other.model.memory.memory_state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
