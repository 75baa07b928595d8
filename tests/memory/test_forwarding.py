import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator
from torch_geometric.nn.models.tgn import LastAggregator as PyGLastAggregator

from pyg_mspipe.memory import LastAggregator, TGNMemory
from pyg_mspipe.memory.message_rows import MessageCommit

NODES, WIDTH = 6, 3


def memory_of(aggregator):
    torch.manual_seed(0)
    return TGNMemory(NODES, 2, WIDTH, 4, IdentityMessage(2, WIDTH, 4), aggregator())


def commits_of(sizes, seed):
    """Random commits with self-loops, repeats, nodes in both roles, and times that tie within and across batches."""
    generator = torch.Generator().manual_seed(seed)
    now = 0
    for size in sizes:
        steps = torch.randint(0, 2, (size,), generator=generator)
        t = now + steps.cumsum(0)
        now = int(t[-1])
        src, dst = torch.randint(0, NODES, (2, size), generator=generator)
        n_id = torch.cat([src, dst]).unique()
        yield MessageCommit(
            n_id,
            torch.randn(n_id.numel(), WIDTH, generator=generator),
            torch.randint(0, now + 1, (n_id.numel(),), generator=generator),
            src,
            dst,
            t,
            torch.randn(size, 2, generator=generator),
        )


def assert_same(one, other):
    assert torch.equal(one.memory, other.memory)
    assert torch.equal(one.last_update, other.last_update)
    valid = getattr(one.messages, "valid", slice(None))
    for name, mine in vars(one.messages).items():
        theirs = getattr(other.messages, name)
        if name == "num_source":
            assert mine == theirs
        elif name == "valid":
            assert torch.equal(mine, theirs)
        else:
            assert torch.equal(mine[valid], theirs[valid]), name
    assert torch.equal(one.other[valid], other.other[valid])


@pytest.mark.parametrize("aggregator", [LastAggregator, PyGLastAggregator, MeanAggregator])
@settings(deadline=None, max_examples=75)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    missed=st.integers(0, 4),
    wanted=st.sets(st.integers(0, NODES - 1)),
    seed=st.integers(0, 10**6),
)
def test_forwarded_rows_are_those_of_a_fetch_after_the_commits(aggregator, sizes, missed, wanted, seed):
    memory = memory_of(aggregator)
    state = memory.state
    n_id = torch.tensor(sorted(wanted), dtype=torch.long)
    commits = list(commits_of(sizes, seed))
    seen = max(len(commits) - missed, 0)
    for commit in commits[:seen]:
        state.apply(commit)
    early = state.fetch(TemporalData(n_id=n_id, t=torch.tensor([int(commits[-1].t[-1])])))
    early = state.catch_up(early, commits[seen:])
    for commit in commits[seen:]:
        state.apply(commit)
    assert_same(early, state.read(n_id))
    computed, fetched = memory._compute(early), memory._compute(state.read(n_id))
    assert all(torch.equal(one, other) for one, other in zip(computed, fetched, strict=True))
