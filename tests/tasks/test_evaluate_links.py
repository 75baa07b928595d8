"""Evaluation of loops as PyG's and TGB's examples have them, and TGB's numbers by a pass for each event."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_geometric.data import TemporalData
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator
from torch_geometric.nn.models.tgn import TGNMemory as PyGMemory

from pyg_mspipe import LinkPredictor, NeighborSampler, TemporalCSR, TGNMemory, evaluate_links, synthetic
from pyg_mspipe.data import EventGroups, Negatives, split_stream
from pyg_mspipe.training import TrainConfig, Trainer

DIM, BATCH = 8, 25


@pytest.fixture(scope="module")
def data():
    """The first events of Wikipedia where they are at hand, else of the synthetic stream."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "wikipedia.npz"
    if not path.is_file():
        return synthetic(600, num_src=40, num_dst=60, msg_dim=3)
    stream = np.load(path)
    src, dst, t = (torch.from_numpy(stream[name][:600]).long() for name in ("src", "dst", "t"))
    dst = dst.unique(return_inverse=True)[1] + int(src.max()) + 1
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(600, 3, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def tgb(data, tmp_path_factory):
    """The split, and py-tgb's own lists of negatives for both parts, by its class and seed."""
    generator_module = pytest.importorskip("tgb.linkproppred.negative_generator")
    sampler_module = pytest.importorskip("tgb.linkproppred.negative_sampler")
    split, folder = split_stream(data), tmp_path_factory.mktemp("lists")
    first, last = int(data.dst.min()), int(data.dst.max())
    train = data[: split.train.stop]
    made = generator_module.NegativeEdgeGenerator("toy", first, last, 40, "hist_rnd", 123, 0.5, train)
    sampler = sampler_module.NegativeEdgeSampler("toy", strategy="hist_rnd")
    for part in ("val", "test"):
        events = getattr(split, part)
        made.generate_negative_samples(data[events.start : events.stop], part, str(folder))
        sampler.load_eval_set(str(folder / f"toy_{part}_ns.pkl"), part)

    def lists(part):
        return lambda at: sampler.query_batch(at.src, at.dst, at.t, split_mode=part)

    return SimpleNamespace(split=split, lists=lists)


def evaluator():
    return pytest.importorskip("tgb.linkproppred.evaluate").Evaluator(name="tgbl-wiki")


class Means:
    """MRR and Hits@10 by py-tgb's evaluator, of one event after the other."""

    def __init__(self):
        self.evaluator, self.rows = evaluator(), []

    def add(self, scores):
        scores = scores.detach().reshape(-1).numpy()
        told = {"y_pred_pos": scores[:1], "y_pred_neg": scores[1:], "eval_metric": ["mrr"]}
        found = self.evaluator.eval(told)
        self.rows.append((found["mrr"], found["hits@10"]))

    def __iter__(self):
        return iter(np.mean(self.rows, axis=0))


@torch.no_grad()
def by_event(trainer, part, lists):
    """The same model's numbers by a pass for each event."""
    means = Means()
    batches = trainer.batches(part)
    trainer.objective.eval()
    trainer.model.settle(batches)
    for index in range(len(batches)):
        events = batches.events_of(index)
        at = batches.read(0, index)
        for e_id, negatives in zip(events, lists(at), strict=True):
            nodes = torch.cat([trainer.data.src[e_id].view(1), trainer.data.dst[e_id].view(1), torch.tensor(negatives)])
            z = trainer.objective.embed(batches.ask(nodes, events.start))
            means.add(trainer.task.score_pairs(z[:1], z[1:]))
        trainer.model.update(at)
    return means


@pytest.mark.parametrize("model", ["tgn", "dyrep", "apan"])
def test_mrr_and_hits_are_py_tgbs_by_a_pass_for_each_event(data, tgb, model):
    config = TrainConfig(model=model, epochs=1, batch_size=BATCH, memory_dim=DIM, time_dim=DIM, embedding_dim=DIM)

    def trained():
        trainer = Trainer(data, config, eval_negatives=lambda at: tgb.lists(parts[at.events.start >= test])(at))
        memory = {}
        validate = trainer.executor.validate

        def kept(on_batch):
            memory.update(trainer.model.state.save())
            return validate(on_batch)

        trainer.executor.validate = kept
        trainer.fit()
        trainer.model.train()
        trainer.model.state.load(memory)
        return trainer

    parts, test = ("val", "test"), tgb.split.test.start
    ours, theirs = trained(), trained()
    for part in parts:
        metrics = ours.evaluate(part)
        mrr, hits = by_event(theirs, part, tgb.lists(part))
        assert metrics.mrr == pytest.approx(float(mrr), abs=1e-6)
        assert metrics.hits_10 == pytest.approx(float(hits), abs=1e-6)


class Loop:
    """Modules as in PyG's example, around a memory."""

    def __init__(self, data, kind):
        torch.manual_seed(0)
        self.data, msg_dim = data, data.msg.size(1)
        message = IdentityMessage(msg_dim, DIM, DIM)
        self.memory = kind(data.num_nodes, msg_dim, DIM, DIM, message, LastAggregator())
        self.conv = TransformerConv(DIM, DIM // 2, heads=2, edge_dim=msg_dim + DIM)
        self.link_pred = LinkPredictor(DIM)
        with torch.no_grad():
            for module in (self.memory, self.conv, self.link_pred):
                module.train()
            for first in range(0, 400, BATCH):
                part = data[first : first + BATCH]
                self.memory.update_state(part.src, part.dst, part.t, part.msg)
            for module in (self.memory, self.conv, self.link_pred):
                module.eval()

    def embed(self, n_id, edge_index, t, msg):
        z, last_update = self.memory(n_id)
        t_enc = self.memory.time_enc((last_update[edge_index[0]] - t).to(z.dtype))
        return self.conv(z, edge_index, torch.cat([t_enc, msg], dim=-1))

    @torch.no_grad()
    def by_event(self, events, lists):
        """TGB's loop: a pass for each event, and then the memory's update with the batch."""
        data, means = self.data, Means()
        sampler = NeighborSampler(TemporalCSR.from_stream(data), [5])
        for first in range(events.start, events.stop, BATCH):
            batch = data[first : min(first + BATCH, events.stop)]
            for src, dst, negatives in zip(batch.src, batch.dst, lists(batch), strict=True):
                others = torch.cat([dst.view(1), torch.as_tensor(negatives)])
                n_id, edge_index, e_id = sampler(torch.cat([src.view(1), others]), first)
                z = self.embed(n_id, edge_index, data.t[e_id], data.msg[e_id])
                rows = torch.searchsorted(n_id, others)
                means.add(self.link_pred(z[torch.searchsorted(n_id, src)].expand(len(rows), -1), z[rows]))
            self.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        return means


@pytest.mark.parametrize("kind", [PyGMemory, TGNMemory])
@pytest.mark.parametrize("projected_once", [True, False])
def test_a_loop_of_ones_own_gets_the_numbers_of_its_pass_for_each_event(data, tgb, kind, projected_once):
    ours, theirs = Loop(data, kind), Loop(data, kind)
    metrics = evaluate_links(
        data,
        tgb.split.val,
        negatives=tgb.lists("val"),
        embed=ours.embed,
        score=ours.link_pred if projected_once else lambda *z: ours.link_pred(*z),
        update=ours.memory.update_state,
        batch_size=BATCH,
        num_neighbors=[5],
        groups=EventGroups.of(data, tgb.split),
    )
    mrr, hits = theirs.by_event(tgb.split.val, tgb.lists("val"))
    assert metrics.mrr == pytest.approx(float(mrr), abs=1e-6)
    assert metrics.hits_10 == pytest.approx(float(hits), abs=1e-6)
    assert metrics.num_events == len(tgb.split.val)
    assert sum(metrics.groups[name].num_events for name in ("transductive", "inductive")) == metrics.num_events
    for one, other in zip(ours.memory.state_dict().values(), theirs.memory.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_negatives_may_have_sources_of_their_own_and_be_fewer_for_some_events(data):
    split = split_stream(data)
    events = range(split.val.start, split.val.start + BATCH)

    def other_pairs(at):
        own = Negatives(at.dst.repeat(3, 1), at.src.flip(0).repeat(3, 1))
        own.dst[1:, ::2] = -1
        return Negatives(own.dst, own.src, padded=True)

    def evaluated(wrapped):
        loop = Loop(data, TGNMemory)
        score = (lambda *z: loop.link_pred(*z)) if wrapped else loop.link_pred
        options = {"negatives": other_pairs, "embed": loop.embed, "score": score, "update": lambda *batch: None}
        return evaluate_links(data, events, **options, batch_size=BATCH, num_neighbors=[5])

    loop, batch = Loop(data, TGNMemory), data[events.start : events.stop]
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [5])
    n_id, edge_index, e_id = sampler(torch.cat([batch.src, batch.dst]), events.start)
    with torch.no_grad():
        z = loop.embed(n_id, edge_index, data.t[e_id], data.msg[e_id])
        rows = [torch.searchsorted(n_id, each) for each in (batch.src, batch.dst, batch.src.flip(0))]
        own, other = (loop.link_pred(z[src], z[rows[1]]).view(-1) for src in (rows[0], rows[2]))
    count = torch.tensor([3, 1])[(torch.arange(BATCH) % 2 == 0).long()]
    level = torch.isclose(own, other, atol=1e-6)  # where both sources are one node
    rank = 1 + count * torch.where(level, 0.5, (other > own).float())
    for wrapped in (False, True):
        assert evaluated(wrapped).mrr == pytest.approx(float((1 / rank).mean()), abs=1e-6)


def test_scores_may_be_infinite_whether_or_not_negatives_are_missing(data):
    events, batch_size = range(400, 500), 30
    low = int(data.dst.min())

    def score(of):
        return -torch.inf if of % 2 else float(of)

    def lists(at):
        return [[low + i, low + 1, low + 3][: 1 + i % 3] for i in range(len(at))]

    metrics = evaluate_links(
        data,
        events,
        negatives=lists,
        embed=lambda n_id, *_: n_id.double().unsqueeze(1),
        score=lambda _, z_dst: torch.where(z_dst % 2 == 1, -torch.inf, z_dst),
        update=lambda *_: None,
        batch_size=batch_size,
        logits=False,
    )
    reciprocal = []
    for event in events:
        place = (event - events.start) % batch_size
        own = score(int(data.dst[event]))
        others = [score(each) for each in [low + place, low + 1, low + 3][: 1 + place % 3]]
        rank = 1 + sum(each > own for each in others) + sum(each == own for each in others) / 2
        reciprocal.append(1 / rank)
    assert metrics.mrr == pytest.approx(sum(reciprocal) / len(reciprocal), abs=1e-6)
    assert metrics.num_negatives == 3
