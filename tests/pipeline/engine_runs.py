"""Short passes of a TGN through the engine, for the tests of it."""

import copy
import itertools
import random
import threading
import time

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe import (
    TGN,
    Batches,
    LastAggregator,
    LinkPredictor,
    NegativeSampler,
    NeighborSampler,
    TemporalCSR,
    TGNMemory,
    synthetic,
)
from pyg_mspipe.loader.temporal_batches import TemporalBatches
from pyg_mspipe.pipeline import InFlight, PipelineEngine
from pyg_mspipe.tasks import LinkPrediction, Objective, train_step

BATCH = 50


def delayed(name, call, seed, longest, fails_at=None, error=None):
    """A method that takes a random time, and fails for one batch if told so; batches come in order."""
    delays, numbers = random.Random(f"{seed} {name}"), itertools.count()

    def late(*args, **options):
        time.sleep(delays.random() * longest)
        if next(numbers) == fails_at:
            raise error
        return call(*args, **options)

    return late


class Training:
    """A TGN trained through the engine for one pass; features may come from a store instead of the stream."""

    def __init__(self, data, hops=(5,), msg=None):
        torch.manual_seed(0)
        num_nodes = int(torch.maximum(data.src, data.dst).max()) + 1
        msg_dim = data.msg.size(1) if msg is None else msg.width
        self.model = TGN(num_nodes, msg_dim, memory_dim=8, time_dim=8, embedding_dim=8, num_layers=len(hops))
        self.objective = Objective(self.model, LinkPrediction(8))
        self.state = self.model.memory.state
        sampler = NeighborSampler(TemporalCSR.from_stream(data, num_nodes), list(hops))
        negatives = NegativeSampler.from_destinations(data.dst, seed=1)
        self.batches = Batches(data, range(data.num_events), BATCH, sampler, negatives, msg=msg)
        self._begin()

    def _begin(self):
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=1e-2)
        self.losses, self.records, self.applied, self.noted = [], [], [], []

    def number_of(self, commit):
        """Which batch's commit it is."""
        return (commit.stop - 1) // BATCH

    def step(self, flight):
        """Trains a batch in flight, or one that has just been read."""
        batch = flight.batch.with_rows(flight.rows) if isinstance(flight, InFlight) else flight
        loss = train_step(self.objective, batch, [self.optimizer], commit=self._commit)
        self.losses.append(loss.item())

    def _commit(self, batch):
        commit = self.model.commit(batch)
        self.state.apply(commit) if self.state.pipeline is None else self.state.pipeline.commit(commit)

    def engine(self, staleness, *, seed=None, longest=None, fails=None, **options):
        """An engine whose stages take random times: up to ``longest[name]`` seconds."""
        source, state = copy.copy(self.batches), self.state
        vars(state).pop("apply", None)
        if seed is not None:
            name, batch, error = fails or (None, None, None)
            # Where a stage touches node memory it is late before it holds the memory, so that others may overtake it.
            places = {
                "sample": (source, "draw"),
                "gather": (source, "gather"),
                "fetch": (state, "await_fetch"),
                "update": (state, "await_apply"),
            }
            for stage, (owner, method) in places.items():
                most, fails_at = (longest or {}).get(stage, 0.003), batch if stage == name else None
                vars(owner).pop(method, None)
                setattr(owner, method, delayed(stage, getattr(owner, method), seed, most, fails_at, error))
        apply = state.apply

        def note(commit):
            self.applied.append(self.number_of(commit))
            apply(commit)

        state.apply = note
        device = torch.device("cpu")
        return PipelineEngine(
            source, state, device=device, staleness=staleness, on_record=self.records.append, **options
        )

    def run(self, staleness, **options):
        self.model.train()
        for flight in self.engine(staleness, **options):
            self.step(flight)
        return self

    def memory_state(self):
        return self.state.save()


class StoredTraining(Training):
    """PyG's model with our memory, which stores its messages, trained through the engine for one pass."""

    def __init__(self, data, hops=(5,), aggregator=None):
        torch.manual_seed(0)
        num_nodes, msg_dim = int(torch.maximum(data.src, data.dst).max()) + 1, data.msg.size(1)
        self.memory = TGNMemory(
            num_nodes, msg_dim, 8, 8, IdentityMessage(msg_dim, 8, 8), aggregator or LastAggregator()
        )
        self.conv = TransformerConv(8, 4, heads=2, edge_dim=msg_dim + 8)
        self.link_pred = LinkPredictor(8)
        self.model = self.objective = torch.nn.ModuleList([self.memory, self.conv, self.link_pred])
        self.state = self.memory.state
        sampler = NeighborSampler(TemporalCSR.from_stream(data, num_nodes), list(hops))
        negatives = NegativeSampler.from_destinations(data.dst, seed=1)
        cpu = torch.device("cpu")
        self.batches = TemporalBatches(data, range(data.num_events), BATCH, sampler, negatives, 1.0, cpu)
        self._begin()

    def number_of(self, commit):
        return len(self.applied)

    def step(self, flight):
        batch = flight.batch
        self.optimizer.zero_grad()
        z, last_update = self.memory(batch.n_id)
        t_enc = self.memory.time_enc((last_update[batch.edge_index[0]] - batch.edge_time).to(z.dtype))
        z = self.conv(z, batch.edge_index, torch.cat([t_enc, batch.edge_attr], dim=-1))
        src, dst, neg_dst = (z[torch.searchsorted(batch.n_id, x)] for x in (batch.src, batch.dst, batch.neg_dst))
        hit, miss = self.link_pred(src, torch.stack([dst, neg_dst])).squeeze(-1)
        loss = bce(hit, torch.ones_like(hit)) + bce(miss, torch.zeros_like(miss))
        self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        loss.backward()
        self.optimizer.step()
        self.memory.detach()
        self.losses.append(loss.item())

    def memory_state(self):
        return self.memory.memory_state()


def stream(num_events=1000, seed=0, **options):
    return synthetic(num_events=num_events, num_src=40, num_dst=20, msg_dim=3, seed=seed, **options)


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mspipe")]


def assert_same_run(one, other):
    assert one.losses == other.losses
    states = one.memory_state(), other.memory_state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
