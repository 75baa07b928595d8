import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import EventGroups, Negatives, NegativeSampler, split_stream, synthetic
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import BASELINES, Baselines, Ranking, evaluate_baselines, link_metrics

NODES = 5
STREAMS = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 12)), min_size=4, max_size=30
)
"""Streams full of ties, and of pairs that meet again."""


def stream_of(events):
    # The last event has the last node, so that all streams have as many.
    events = sorted(events, key=lambda event: event[2])
    src, dst, t = torch.tensor([*events, (0, NODES, events[-1][2])]).T.contiguous()
    return TemporalData(src=src, dst=dst, t=t, msg=torch.zeros(len(t), 0))


class EdgeBankByHand:
    """EdgeBank as TGB keeps it: a dictionary that each batch updates, one pair after the other."""

    def __init__(self, src, dst, t):
        self.now = max(t)
        self.length = self.now - (min(t) + (max(t) - min(t)) * (1 - 0.15))
        self.last = {}
        self.update(src, dst, t)

    def update(self, src, dst, t):
        self.now = max(self.now, *t)
        self.last |= dict(zip(zip(src, dst, strict=True), t, strict=True))

    def score(self, pair):
        within = pair in self.last and self.last[pair] >= self.now - self.length - 1e-9
        return float(pair in self.last), float(within)


@settings(deadline=None)
@given(STREAMS, st.integers(1, 29), st.integers(1, 5), st.integers(1, 6))
def test_scores_are_those_counted_event_by_event(events, train, batch_size, recent):
    data = stream_of(events)
    train = 1 + train % (data.num_events - 1)
    columns = data.src.tolist(), data.dst.tolist(), data.t.tolist()
    baselines = Baselines.of(data, range(train))
    baselines = Baselines(
        *(getattr(baselines, name) for name in ("pairs", "destinations", "t", "moment", "window")), recent
    )
    bank = EdgeBankByHand(*(each[:train] for each in columns))
    src = torch.arange(NODES + 1).repeat_interleave(NODES + 1)
    dst = torch.arange(NODES + 1).repeat(NODES + 1)
    for bound in range(train, data.num_events, batch_size):
        scores = {name: each.tolist() for name, each in baselines.scores(src, dst, bound).items()}
        assert tuple(scores) == BASELINES
        met = [
            [t for u, v, t in list(zip(*columns, strict=True))[:bound] if (u, v) == pair] for pair in pairs_of(src, dst)
        ]
        by_hand = [bank.score(pair) for pair in pairs_of(src, dst)]
        assert scores["edgebank"] == [each[0] for each in by_hand]
        assert scores["edgebank_window"] == [each[1] for each in by_hand]
        assert scores["popularity"] == [columns[1][:bound].count(v) for v in dst.tolist()]
        assert scores["popularity_recent"] == [
            columns[1][max(bound - recent, 0) : bound].count(v) for v in dst.tolist()
        ]
        # The order alone matters: of two pairs the one that met later is higher, and those that never met are lowest.
        last = [max(times, default=-1) for times in met]
        assert torch.equal(order(scores["pair_recency"]), order(last))
        bank.update(*(each[bound : bound + batch_size] for each in columns))


def pairs_of(src, dst):
    return list(zip(src.tolist(), dst.tolist(), strict=True))


def order(values):
    """The place of each value among the distinct ones."""
    return torch.tensor(values).unique(return_inverse=True)[1]


def test_nothing_is_known_before_the_first_event():
    data = stream_of([(0, 1, 3), (1, 2, 3)])
    scores = Baselines.of(data, range(1)).scores(data.src, data.dst, 0)
    assert {name: each.unique().tolist() for name, each in scores.items()} == {
        name: [-1.0 if name == "pair_recency" else 0.0] for name in BASELINES
    }


def ragged(positives):
    return [[(7 * e + k) % NODES for k in range(e % 4)] for e in positives.events]


def with_sources(positives):
    e_id = torch.tensor(positives.events)
    return Negatives(torch.stack([e_id % 4, e_id % 3]), torch.stack([e_id % 5, (e_id + 3) % NODES]))


@pytest.mark.parametrize("draw", [ragged, with_sources, NegativeSampler(0, NODES, num=3)])
def test_metrics_are_of_each_pair_scored_alone_by_what_came_before_its_batch(draw):
    generator = torch.Generator().manual_seed(0)
    ends, t = torch.randint(NODES, (2, 90), generator=generator), torch.randint(40, (1, 90), generator=generator)
    data = stream_of(torch.cat([ends, t]).t().tolist())
    split = split_stream(data)
    baselines, groups = Baselines.of(data, split.train), EventGroups.of(data, split)
    batches = Batches(data, split.val, 4, NeighborSampler(TemporalCSR.from_stream(data), []), draw)
    found = evaluate_baselines(baselines, batches, groups)
    assert tuple(found) == BASELINES
    for name in BASELINES:
        rankings = []
        for index in range(len(batches)):
            events = batches.events_of(index)
            negatives = batches.negatives_of(events, 0, index)
            table = torch.full((1 + len(negatives.dst), len(events)), -torch.inf, dtype=torch.float64)
            for column, e in enumerate(events):
                own = [(int(data.src[e]), int(data.dst[e]))]
                for k, v in enumerate(negatives.dst[:, column].tolist()):
                    own.append((own[0][0] if negatives.src is None else int(negatives.src[k, column]), v))
                for row, (u, v) in enumerate(own):
                    if v >= 0:
                        alone = baselines.scores(torch.tensor([u]), torch.tensor([v]), events.start)
                        table[row, column] = alone[name].item()
            rankings.append(Ranking.of(table))
        assert found[name] == link_metrics(rankings, split.val, groups, logits=False)


def test_memory_of_pairs_and_of_the_last_moment_tell_links_of_the_generated_stream_and_popularity_hardly():
    data = synthetic(3000)
    split = split_stream(data)
    draw = NegativeSampler.from_destinations(data.dst)
    batches = Batches(data, split.val, 200, NeighborSampler(TemporalCSR.from_stream(data), []), draw)
    aps = {name: each.ap_micro for name, each in evaluate_baselines(Baselines.of(data, split.train), batches).items()}
    assert aps["pair_recency"] > aps["popularity"]
    assert min(aps["edgebank"], aps["edgebank_window"]) > 0.5
