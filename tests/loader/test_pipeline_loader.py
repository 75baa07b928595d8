import os
import threading
import time
from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import patience
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch_geometric.data import TemporalData
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage

from pyg_mspipe import (
    LastAggregator,
    LinkPredictor,
    NegativeSampler,
    NeighborSampler,
    PipelineLoader,
    StreamError,
    TemporalCSR,
    TGNMemory,
    synthetic,
)
from pyg_mspipe.data import MappedFeatures, Negatives, TensorFeatures, write_features
from pyg_mspipe.memory.writes import ForeignWriteError
from pyg_mspipe.pipeline import PipelineError

BATCH = 50
OPTIONS = {"batch_size": BATCH, "num_neighbors": [5], "neg_sampling_ratio": 1.0, "seed": 7}


def stream(num_events=620, msg_dim=3):
    return synthetic(num_events=num_events, num_src=40, num_dst=20, msg_dim=msg_dim)


def memory_of(data, dim=8, num_nodes=None):
    msg_dim = data.msg.size(1)
    message = IdentityMessage(msg_dim, dim, dim)
    return TGNMemory(num_nodes or data.num_nodes, msg_dim, dim, dim, message, LastAggregator())


def own_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mspipe")]


def counted_commits(memory):
    """The first times of the commits that are applied from now on."""
    apply, seen = memory.state.apply, []

    def noted(commit):
        apply(commit)
        seen.append(int(commit.t[0]))

    memory.state.apply = noted
    return seen


class Loop:
    """PyG's example loop: its convolution, an optimizer, and the memory."""

    def __init__(self, data, dropout=0.0):
        torch.manual_seed(0)
        self.data, dim, msg_dim = data, 8, data.msg.size(1)
        self.memory = memory_of(data, dim)
        self.conv = TransformerConv(dim, dim // 2, heads=2, dropout=dropout, edge_dim=msg_dim + dim)
        self.link_pred = LinkPredictor(dim)
        self.modules = torch.nn.ModuleList([self.memory, self.conv, self.link_pred])
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=1e-2)
        self.losses, self.scores = [], []

    def predict(self, batch, n_id, edge_index, edge_time, edge_attr):
        z, last_update = self.memory(n_id)
        t_enc = self.memory.time_enc((last_update[edge_index[0]] - edge_time).to(z.dtype))
        z = self.conv(z, edge_index, torch.cat([t_enc, edge_attr], dim=-1))
        src, dst, neg_dst = (z[torch.searchsorted(n_id, x)] for x in (batch.src, batch.dst, batch.neg_dst))
        return torch.cat([self.link_pred(src, dst), self.link_pred(src, neg_dst)])

    def train_step(self, batch, *inputs):
        self.optimizer.zero_grad()
        scores = self.predict(batch, *inputs)
        loss = bce(scores, torch.arange(2).flip(0).repeat_interleave(batch.num_events).view(-1, 1).float())
        self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        loss.backward()
        self.optimizer.step()
        self.memory.detach()
        self.losses.append(loss.item())

    @torch.no_grad()
    def test_step(self, batch, *inputs):
        self.scores.append(self.predict(batch, *inputs))
        self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)

    def plain(self, step, events, epoch):
        """A pass without a loader: samples, gathers and reads the memory at each batch."""
        sampler = NeighborSampler(TemporalCSR.from_stream(self.data), OPTIONS["num_neighbors"])
        negatives = NegativeSampler.from_destinations(self.data.dst[: events.stop], seed=OPTIONS["seed"])
        for index, first in enumerate(range(events.start, events.stop, BATCH)):
            batch = self.data[first : min(first + BATCH, events.stop)]
            batch.neg_dst = negatives.draw(batch.num_events, epoch=epoch, batch=index)
            n_id, edge_index, e_id = sampler(torch.cat([batch.src, batch.dst, batch.neg_dst]), first)
            step(batch, n_id, edge_index, self.data.t[e_id], self.data.msg[e_id])

    def pipelined(self, step, loader):
        """A pass through a loader."""
        for batch in loader:
            step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)

    def begin_epoch(self):
        self.modules.train()
        self.memory.reset_state()


def slow_updates(memory, seconds=0.01):
    apply = memory.state.apply

    def slowly(commit):
        time.sleep(seconds)
        apply(commit)

    memory.state.apply = slowly


def late_commits(memory, batches):
    """Each batch commits when the next has been fetched, so that every fetch misses one."""
    fetch, update_state, fetched, updated = memory.state.fetch, memory.update_state, threading.Semaphore(0), count()

    def noted(*args, **options):
        rows = fetch(*args, **options)
        fetched.release()
        return rows

    def late(*events):
        index = next(updated) % batches
        for _ in range((index == 0) + (index < batches - 1)):
            assert fetched.acquire(timeout=patience())
        update_state(*events)

    memory.state.fetch, memory.update_state = noted, late


def assert_same_memory(one, other):
    states = one.memory_state(), other.memory_state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def read(loader):
    loader.memory.eval()
    return list(loader)


# What a batch is.


@settings(deadline=None, max_examples=30)
@given(
    batch_size=st.integers(1, 120),
    bounds=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    ratio=st.sampled_from([0.0, 0.5, 1.0, 2.5]),
    hops=st.sampled_from([[1], [5], [3, 2]]),
    strategy=st.sampled_from(["recent", "uniform"]),
    epoch=st.integers(0, 3),
)
def test_a_batch_is_its_events_with_the_neighbours_from_before_the_first(
    batch_size, bounds, ratio, hops, strategy, epoch
):
    data, events = stream(300), range(min(bounds), max(bounds))
    loader = PipelineLoader(
        data,
        memory_of(data),
        batch_size=max(batch_size, len(events) // 5),
        num_neighbors=hops,
        neg_sampling_ratio=ratio,
        events=events,
        strategy=strategy,
        seed=3,
    )
    loader.epoch = epoch
    sampler = NeighborSampler(TemporalCSR.from_stream(data), hops, strategy, 3)
    first = events.start
    for batch in read(loader):
        own = slice(first, first + batch.num_events)
        for name in ("src", "dst", "t", "msg"):
            assert torch.equal(batch[name], data[name][own])
        queries = [batch.src, batch.dst]
        if ratio:
            assert batch.neg_dst.shape == (round(ratio * batch.num_events),)
            queries.append(batch.neg_dst)
        else:
            assert "neg_dst" not in batch
        n_id, edge_index, e_id = sampler(torch.cat(queries), first, epoch=epoch)
        assert torch.equal(batch.n_id, n_id)
        assert torch.equal(batch.edge_index, edge_index)
        assert torch.equal(batch.e_id, e_id)
        assert torch.equal(batch.edge_time, data.t[e_id])
        assert torch.equal(batch.edge_attr, data.msg[e_id])
        assert (e_id < first).all()
        first += loader._batches.batch_size
    assert min(first, events.stop) == events.stop


@pytest.mark.parametrize("has_own", [True, False])
def test_features_come_from_the_stores_whatever_the_stream_has(tmp_path, has_own):
    data, x = stream(300), torch.randn(64, 5)
    write_features(tmp_path / "msg.npy", data.msg)
    other = TemporalData(src=data.src, dst=data.dst, t=data.t, msg=data.msg + 1 if has_own else None)
    stores = {"features": MappedFeatures(tmp_path / "msg.npy"), "node_features": TensorFeatures(x.half())}
    expected = read(PipelineLoader(data, memory_of(data), **OPTIONS))
    found = read(PipelineLoader(other, memory_of(data), **OPTIONS, **stores))
    assert len(found) == len(expected) == 6
    for one, batch in zip(expected, found, strict=True):
        for name in ("src", "msg", "e_id", "edge_time", "edge_attr", "n_id"):
            assert torch.equal(batch[name], one[name])
        assert torch.equal(batch.x, x.half().float()[batch.n_id])
        assert "x" not in one


def test_features_of_other_events_or_nodes_are_refused():
    data = stream(300)
    with pytest.raises(StreamError, match="in memory: 299 rows of event features for 300 events; give one row"):
        PipelineLoader(data, memory_of(data), features=TensorFeatures(data.msg[1:]))
    nodes = TensorFeatures(torch.zeros(data.num_nodes - 1, 2))
    with pytest.raises(
        StreamError, match=f"in memory: {data.num_nodes - 1} rows of node features for {data.num_nodes}"
    ):
        PipelineLoader(data, memory_of(data), node_features=nodes)


def test_a_batch_has_the_fields_dtypes_and_shapes_that_are_documented():
    data = stream()
    *_, batch, last = read(PipelineLoader(data, memory_of(data), **OPTIONS))
    assert isinstance(batch, TemporalData)
    integers = {"src", "dst", "t", "neg_dst", "n_id", "edge_index", "e_id", "edge_time"}
    assert set(batch.to_dict()) == integers | {"msg", "edge_attr"}
    assert {batch[name].dtype for name in integers} == {torch.int64}
    assert batch.msg.dtype == batch.edge_attr.dtype == torch.float32
    num_edges = batch.e_id.numel()
    assert num_edges > 0
    assert batch.edge_index.shape == (2, num_edges)
    assert batch.edge_attr.shape == (num_edges, 3)
    assert (batch.num_events, last.num_events) == (BATCH, 620 % BATCH)


def test_every_batch_has_the_streams_further_attributes():
    data = synthetic(num_events=120, num_src=40, num_dst=20, msg_dim=3, labels=True)
    batches = read(PipelineLoader(data, memory_of(data), batch_size=BATCH))
    assert torch.equal(torch.cat([batch.y for batch in batches]), data.y)


def test_the_length_is_the_number_of_batches():
    data = stream()
    for events, batches in [(None, 13), (range(0, 600), 12), (range(599, 620), 1), (range(5, 5), 0)]:
        loader = PipelineLoader(data, memory_of(data), **OPTIONS, events=events)
        assert len(loader) == len(read(loader)) == batches


def test_negatives_depend_on_seed_epoch_and_batch_alone():
    data = stream()
    drawn = [batch.neg_dst for batch in read(PipelineLoader(data, memory_of(data), **OPTIONS))]
    sampler = NegativeSampler.from_destinations(data.dst, seed=7)
    assert all(torch.equal(x, sampler.draw(x.numel(), epoch=0, batch=i)) for i, x in enumerate(drawn))
    others = {"num_neighbors": [2, 2], "staleness": "sequential", "prefetch": 1, "strategy": "uniform"}
    again = read(PipelineLoader(data, memory_of(data), **OPTIONS | others))
    assert all(torch.equal(batch.neg_dst, x) for batch, x in zip(again, drawn, strict=True))
    reseeded = read(PipelineLoader(data, memory_of(data), **OPTIONS | {"seed": 8}))
    assert not any(torch.equal(batch.neg_dst, x) for batch, x in zip(reseeded, drawn, strict=True))


def test_destinations_of_later_events_are_no_negatives():
    data = stream()
    data.dst[-1] = data.num_nodes
    earlier = PipelineLoader(data, memory_of(data), **OPTIONS, events=range(600))
    later = PipelineLoader(data, memory_of(data), **OPTIONS | {"neg_sampling_ratio": 50.0}, events=range(600, 620))
    known = int(data.dst[:600].max())
    assert all(int(batch.neg_dst.max()) <= known for _ in range(3) for batch in read(earlier))
    assert max(int(batch.neg_dst.max()) for batch in read(later)) > known


def test_negatives_of_ones_own_come_event_by_event_with_their_sources_and_neighbours():
    data = stream()
    seen = []

    def lists(at):
        seen.append((at.events, at.epoch, at.batch))
        return [[(e + k) % 60 for k in range(e % 3)] for e in at.events]

    options = {name: OPTIONS[name] for name in ("batch_size", "num_neighbors")}
    loader = PipelineLoader(data, memory_of(data), **options, negatives=lists, staleness="sequential")
    for index, batch in enumerate(read(loader)):
        events = range(index * BATCH, min((index + 1) * BATCH, data.num_events))
        expected = [(i, (e + k) % 60) for i, e in enumerate(events) for k in range(e % 3)]
        assert list(zip(batch.neg_event.tolist(), batch.neg_dst.tolist(), strict=True)) == expected
        assert torch.isin(batch.neg_dst, batch.n_id).all()
        assert "neg_src" not in batch
    assert [(events.start // BATCH, 0, batch) for events, _, batch in seen] == [(i, 0, i) for i in range(len(loader))]

    def pairs(at):
        return Negatives(torch.stack([at.dst, at.src]), torch.stack([at.dst.flip(0), at.dst]))

    (batch, *_) = read(PipelineLoader(data, memory_of(data), **options, negatives=pairs))
    assert torch.equal(batch.neg_dst.view(-1, 2), torch.stack([batch.dst, batch.src], dim=1))
    assert torch.equal(batch.neg_src.view(-1, 2), torch.stack([batch.dst.flip(0), batch.dst], dim=1))
    assert torch.equal(batch.neg_event, torch.arange(BATCH).repeat_interleave(2))
    with pytest.raises(ValueError, match="both neg_sampling_ratio and negatives are given"):
        PipelineLoader(data, memory_of(data), **OPTIONS, negatives=pairs)


def test_each_pass_draws_other_negatives_and_an_epoch_can_be_had_again():
    data = stream()
    loader = PipelineLoader(data, memory_of(data), **OPTIONS)
    first, second = read(loader), read(loader)
    assert loader.epoch == 2
    loader.epoch = 1
    again = read(loader)
    for one, other, same in zip(first, second, again, strict=True):
        assert not torch.equal(one.neg_dst, other.neg_dst)
        assert torch.equal(same.neg_dst, other.neg_dst)


# Training and evaluation.


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("staleness", ["sequential", "exact", 0])
def test_training_equals_a_loop_without_the_loader_bit_for_bit(staleness, dropout):
    data = stream()
    plain, pipelined = Loop(data, dropout), Loop(data, dropout)
    torch.manual_seed(1)
    for epoch in range(2):
        plain.begin_epoch()
        plain.plain(plain.train_step, range(data.num_events), epoch)
    loader = PipelineLoader(data, pipelined.memory, **OPTIONS, staleness=staleness)
    if staleness == "exact":
        late_commits(pipelined.memory, len(loader))
    torch.manual_seed(1)
    for _ in range(2):
        pipelined.begin_epoch()
        pipelined.pipelined(pipelined.train_step, loader)
    assert pipelined.losses == plain.losses
    assert_same_memory(pipelined.memory, plain.memory)
    if staleness == "exact":
        assert all(record.fetched < record.index for record in loader.records if record.index)


@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 3])
def test_validation_equals_a_loop_without_the_loader_bit_for_bit(staleness):
    data, seen, validated = stream(), range(0, 400), range(400, 620)
    plain, pipelined = Loop(data), Loop(data)
    plain.begin_epoch()
    plain.plain(plain.train_step, seen, 0)
    plain.modules.eval()
    plain.plain(plain.test_step, validated, 0)

    pipelined.begin_epoch()
    pipelined.pipelined(pipelined.train_step, PipelineLoader(data, pipelined.memory, **OPTIONS, events=seen))
    pipelined.modules.eval()
    loader = PipelineLoader(data, pipelined.memory, **OPTIONS, events=validated, staleness=staleness)
    pipelined.pipelined(pipelined.test_step, loader)

    assert len(plain.scores) == 5
    assert all(torch.equal(one, other) for one, other in zip(pipelined.scores, plain.scores, strict=True))
    assert_same_memory(pipelined.memory, plain.memory)
    assert {record.staleness for record in loader.records} == {0}


@pytest.mark.parametrize("training", [True, False])
def test_sequential_starts_no_thread(training):
    data = stream()
    loop = Loop(data)
    loop.modules.train(training)
    for batch in PipelineLoader(data, loop.memory, **OPTIONS, staleness="sequential"):
        assert not own_threads()
        loop.memory(batch.n_id)
        loop.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)


@pytest.mark.parametrize("staleness", ["exact", 2])
def test_without_overlap_no_thread_is_started(staleness):
    data = stream()
    loop = Loop(data)
    loop.begin_epoch()
    loader = PipelineLoader(data, loop.memory, **OPTIONS, staleness=staleness, overlap="never")
    for batch in loader:
        assert not own_threads()
        loop.train_step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
    assert [r.staleness for r in loader.records] == [
        0 if staleness == "exact" else min(r.index, 2) for r in loader.records
    ]


def test_a_stream_without_messages_is_trained():
    data = stream()
    del data["msg"]
    loop = Loop(stream(msg_dim=0))
    loop.begin_epoch()
    loop.pipelined(loop.train_step, PipelineLoader(data, loop.memory, **OPTIONS))
    plain = Loop(loop.data)
    plain.begin_epoch()
    plain.plain(plain.train_step, range(620), 0)
    assert loop.losses == plain.losses


@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 2])
def test_records_tell_of_every_batch_and_pass_in_order(staleness):
    data = stream()
    loop, noted = Loop(data), []
    slow_updates(loop.memory, 0.003)
    loader = PipelineLoader(data, loop.memory, **OPTIONS, staleness=staleness, on_record=noted.append)
    for _ in range(2):
        loop.begin_epoch()
        loop.pipelined(loop.train_step, loader)
    assert list(loader.records) == noted
    assert [record.index for record in noted] == 2 * list(range(13))
    for record in noted:
        assert set(record.begin) == set(record.finish) == {"sample", "gather", "fetch", "train", "update"}
        assert record.begin["train"] <= record.rows_at <= record.begin["update"]
        assert 0 <= record.staleness <= record.bound
        assert record.staleness == (record.index - record.fetched if staleness in ("minimal", 2) else 0)
        if staleness == 2:
            assert record.bound == 2


# Leaving a pass.


@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 2])
def test_breaking_out_leaves_no_thread_and_the_next_pass_is_whole(staleness):
    data = stream()
    loop = Loop(data)
    loader = PipelineLoader(data, loop.memory, **OPTIONS, staleness=staleness)
    commits = counted_commits(loop.memory)
    loop.begin_epoch()
    for trained, batch in enumerate(loader):
        loop.train_step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
        if trained == 3:
            break
    assert not own_threads()
    assert len(commits) == 4
    loop.begin_epoch()
    loop.pipelined(loop.train_step, loader)
    assert not own_threads()
    assert len(loop.losses) == 4 + 13
    assert len(commits) == 4 + 13


def test_a_new_pass_closes_the_one_that_was_left():
    data = stream()
    loop = Loop(data)
    loader = PipelineLoader(data, loop.memory, **OPTIONS)
    loop.memory.train()
    left = iter(loader)
    next(left)
    assert own_threads()
    with pytest.warns(UserWarning, match="update_state was not called for any batch of the pass"):
        assert [loop.memory(batch.n_id)[0].size(1) for batch in loader] == [8] * 13
    assert not own_threads()
    with pytest.raises(StopIteration):
        next(left)


def test_closing_applies_the_commits_and_frees_the_memory():
    data = stream()
    loop = Loop(data)
    slow_updates(loop.memory)
    commits = counted_commits(loop.memory)
    loader = PipelineLoader(data, loop.memory, **OPTIONS)
    loader.close()  # nothing is under way
    loop.begin_epoch()
    batches = iter(loader)
    for _ in range(3):
        batch = next(batches)
        loop.train_step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
    with pytest.raises(RuntimeError, match="finish or close its loader"):
        loop.memory.reset_state()
    loader.close()
    loader.close()
    assert not own_threads()
    assert len(commits) == 3
    loop.memory.reset_state()


def test_a_loader_that_is_not_closed_keeps_others_from_its_memory():
    data = stream()
    memory = memory_of(data)
    batches = iter(PipelineLoader(data, memory, **OPTIONS))
    next(batches)
    with pytest.raises(RuntimeError, match="in use by another pipeline"):
        next(iter(PipelineLoader(data, memory, **OPTIONS)))
    batches.close()
    memory.eval()
    assert len(list(PipelineLoader(data, memory, **OPTIONS))) == 13


def test_an_update_that_fails_is_raised_with_its_batch_and_leaves_no_thread():
    data = stream()
    loop = Loop(data)
    commits = counted_commits(loop.memory)
    apply = loop.memory.state.apply

    def fails_once(commit):
        if len(commits) == 5:
            raise OSError("the disk is gone")
        apply(commit)

    loop.memory.state.apply = fails_once
    loop.begin_epoch()
    with pytest.raises(PipelineError, match="stage update, batch 5: OSError: the disk is gone"):
        loop.pipelined(loop.train_step, PipelineLoader(data, loop.memory, **OPTIONS))
    assert not own_threads()
    assert len(commits) == 5


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0; give at least 1"),
        ({"prefetch": 0}, "prefetch=0; give at least 1"),
        ({"neg_sampling_ratio": -0.5}, "neg_sampling_ratio=-0.5; give a number from 0"),
        ({"events": range(0, 621)}, r"events=range\(0, 621\) are no consecutive events of a stream of 620"),
        ({"events": range(-1, 5)}, "no consecutive events"),
        ({"events": range(0, 100, 2)}, "no consecutive events"),
        ({"events": range(7, 3)}, "no consecutive events"),
        ({"num_neighbors": [5, 0]}, "a number of at least 1 for each hop"),
        ({"strategy": "latest"}, "strategy='latest' is unknown"),
        ({"staleness": "none"}, "staleness is 'none'; choose sequential, exact, minimal"),
        ({"staleness": -1}, "staleness is -1"),
        ({"overlap": "yes"}, "overlap is 'yes'; choose auto, always, never"),
        ({"seed": -1}, "seed -1 is empty or negative"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    data = stream()
    with pytest.raises(ValueError, match=message):
        PipelineLoader(data, memory_of(data), **OPTIONS | arguments)


def test_a_memory_with_fewer_nodes_than_the_stream_is_refused():
    data = stream()
    largest = data.num_nodes - 1
    with pytest.raises(ValueError, match=f"node {largest}, the memory {largest} nodes; make it larger"):
        PipelineLoader(data, memory_of(data, num_nodes=largest))
    assert len(read(PipelineLoader(data, memory_of(data, num_nodes=largest + 10), **OPTIONS))) == 13


def test_a_stream_that_cannot_be_used_is_refused():
    data = stream()
    memory = memory_of(data)
    data.t = data.t.flip(0)
    with pytest.raises(StreamError, match="t decreases"):
        PipelineLoader(data, memory)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("staleness", ["sequential", "exact", "minimal", 2])
def test_rows_that_something_else_changes_end_the_pass(staleness, last):
    example = Loop(stream())
    loader = PipelineLoader(example.data, example.memory, staleness=staleness, overlap="always", **OPTIONS)
    example.begin_epoch()

    def train():
        for index, batch in enumerate(loader):
            example.train_step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
            if index == (len(loader) - 1 if last else 4):
                loader.memory.state.drain()
                example.memory.memory[3] = 1.0

    with pytest.raises((PipelineError, ForeignWriteError), match="changed during a pass by something other than its"):
        train()
    assert own_threads() == []
    assert example.memory.state.pipeline is None
    # Between two passes everybody may write.
    example.begin_epoch()
    example.memory.memory[3] = 1.0
    example.pipelined(example.train_step, loader)


@pytest.mark.parametrize("num_neighbors", [[5], [0], []])
@pytest.mark.parametrize("staleness", ["sequential", "exact", 2])
def test_without_a_memory_a_loop_updates_its_own_as_often_as_it_likes(staleness, num_neighbors):
    data = stream()
    kept, expected = (memory_of(data) for _ in range(2))
    expected.load_state_dict(kept.state_dict())
    options = OPTIONS | {"num_neighbors": num_neighbors}
    loader = PipelineLoader(data, staleness=staleness, overlap="always", **options)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [5] if any(num_neighbors) else [])
    first = 0
    for batch in loader:
        n_id, edge_index, e_id = sampler(torch.cat([batch.src, batch.dst, batch.neg_dst]), first)
        assert torch.equal(batch.n_id, n_id)
        assert torch.equal(batch.edge_index, edge_index)
        assert torch.equal(batch.edge_attr, data.msg[e_id])
        assert torch.equal(kept(batch.n_id)[0], expected(n_id)[0])
        for memory in (kept, expected):
            for part in torch.arange(batch.num_events).split(20):
                memory.update_state(batch.src[part], batch.dst[part], batch.t[part], batch.msg[part])
            memory.detach()
        first += batch.num_events
    assert first == data.num_events
    assert_same_memory(kept, expected)
    assert own_threads() == []


class Wrapped(torch.nn.Module):
    """A memory of one's own around the package's."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.num_nodes = inner, inner.num_nodes

    @property
    def device(self):
        return self.inner.device

    @property
    def state(self):
        return self.inner.state

    def forward(self, n_id):
        return self.inner(n_id)


def test_any_module_with_the_protocol_is_a_memory():
    one, other = Loop(stream()), Loop(stream())
    one.begin_epoch()
    other.begin_epoch()
    wrapped = Wrapped(other.memory)
    one.pipelined(one.train_step, PipelineLoader(one.data, one.memory, overlap="always", **OPTIONS))
    other.pipelined(other.train_step, PipelineLoader(other.data, wrapped, overlap="always", **OPTIONS))
    assert one.losses == other.losses
    assert_same_memory(one.memory, other.memory)


@pytest.mark.parametrize("memory", [True, False])
def test_who_only_looks_at_the_batches_is_not_warned(memory, recwarn):
    data = stream()
    loader = PipelineLoader(data, memory_of(data) if memory else None, **OPTIONS)
    assert len(list(loader)) == len(loader)
    assert not recwarn.list


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("overlap", ["always", "never"])
def test_a_fork_may_close_a_pass_and_not_go_on_with_it(overlap):
    loop = Loop(stream())
    loader = PipelineLoader(loop.data, loop.memory, overlap=overlap, **OPTIONS)
    loop.begin_epoch()
    batches = iter(loader)
    ends = []
    for number, batch in enumerate(batches):
        loop.train_step(batch, batch.n_id, batch.edge_index, batch.edge_time, batch.edge_attr)
        if number % 2 and (child := os.fork()):
            ends.append(os.waitpid(child, 0)[1])
        elif number % 2:
            try:
                if overlap == "always":
                    with pytest.raises(RuntimeError, match="cannot go on in a fork of its process; begin one there"):
                        next(batches)
                loader.close()
                loader.close()
                os._exit(0)
            finally:
                os._exit(1)
    assert ends == [0] * (len(loader) // 2)
    assert own_threads() == []
