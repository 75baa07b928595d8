import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_mspipe.graph.similar_nodes import load_or_compute, similar_nodes

# As an attribute of its package the module gives way to its function.
module = sys.modules["pyg_mspipe.graph.similar_nodes"]

NUM_NODES = 8
MANY = 10**6


@st.composite
def events(draw):
    """Events ``(src, dst)`` among few nodes, so that pairs repeat, ties abound and some node has no event."""
    pairs = draw(st.lists(st.tuples(*[st.integers(0, NUM_NODES - 2)] * 2), max_size=14))
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()


def loop_similar(src, dst, num_nodes, size, max_degree):
    """The definition: all pairs, sets of neighbours, exact fractions by cross-multiplied integers."""
    sets = [set() for _ in range(num_nodes)]
    for a, b in zip(src.tolist(), dst.tolist(), strict=True):
        sets[a].add(b)
        sets[b].add(a)
    hubs = {v for v in range(num_nodes) if len(sets[v]) > max_degree}
    sets = [s - hubs for s in sets]
    rows = []
    for i in range(num_nodes):
        score = {j: (len(sets[i] & sets[j]), len(sets[i] | sets[j])) for j in range(num_nodes) if j != i}
        near = []
        while score:
            best = min(score)
            for j, (common, union) in score.items():
                if common * score[best][1] > score[best][0] * union:
                    best = j
            if score.pop(best)[0]:
                near.append(best)
        near = near[:size]
        rows.append(near + [-1] * (size - len(near)))
    return torch.tensor(rows)


@given(events(), st.integers(1, NUM_NODES + 1), st.integers(1, 6), st.sampled_from([1, 5, MANY]))
def test_similar_nodes_are_those_of_a_loop_over_all_pairs(pairs, size, max_degree, work):
    src, dst = pairs
    with pytest.MonkeyPatch.context() as patch:  # blocks of a row, of some rows, of all
        patch.setattr(module, "_BLOCK_WORK", work)
        similar = similar_nodes(src, dst, NUM_NODES, size=size, max_degree=max_degree)
    assert similar.index.dtype == torch.long
    assert similar.index.equal(loop_similar(src, dst, NUM_NODES, size, max_degree))


@given(events(), st.integers(0, 14))
def test_similar_nodes_of_a_prefix_ignore_whatever_comes_later(pairs, end):
    src, dst = pairs[:, :end]
    seen = set(src.tolist()) | set(dst.tolist())
    index = similar_nodes(src, dst, NUM_NODES).index
    assert set(index.unique().tolist()) <= seen | {-1}
    for node in set(range(NUM_NODES)) - seen:
        assert (index[node] == -1).all()


@given(events(), st.randoms())
def test_direction_order_and_repeats_of_events_do_not_matter(pairs, random):
    expected = similar_nodes(*pairs, NUM_NODES).index
    changed = [random.sample(pair, 2) for pair in pairs.t().tolist() for _ in range(random.choice([1, 3]))]
    random.shuffle(changed)
    src, dst = torch.tensor(changed, dtype=torch.long).view(-1, 2).t()
    assert similar_nodes(src, dst, NUM_NODES).index.equal(expected)


def test_nodes_that_share_only_a_hub_are_similar_just_up_to_the_hubs_limit():
    src, dst = torch.zeros(4, dtype=torch.long), torch.arange(1, 5)
    assert similar_nodes(src, dst, 5, size=3, max_degree=4).index.tolist() == [
        [-1, -1, -1],
        [2, 3, 4],
        [1, 3, 4],
        [1, 2, 4],
        [1, 2, 3],
    ]
    assert (similar_nodes(src, dst, 5, size=3, max_degree=3).index == -1).all()


def test_a_hub_has_similar_nodes_itself():
    src, dst = torch.tensor([0, 0, 0, 4]), torch.tensor([1, 2, 3, 2])
    assert similar_nodes(src, dst, 5, size=1, max_degree=2).index[0].tolist() == [4]


def test_a_star_of_many_leaves_costs_no_more_than_its_events():
    leaves = torch.arange(1, 200_000)  # 4 * 10^10 pairs share the hub
    index = similar_nodes(torch.zeros_like(leaves), leaves, 200_000).index
    assert (index == -1).all()


def test_no_nodes_and_no_events_have_no_similar_nodes():
    none = torch.empty(0, dtype=torch.long)
    assert similar_nodes(none, none, 0, size=4).index.shape == (0, 4)
    assert (similar_nodes(none, none, 3, size=4).index == -1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"max_degree": 0}, "max_degree is 0"),
        ({"num_nodes": 3}, "0 to 3, not 0 to num_nodes - 1 = 2"),
    ],
)
def test_senseless_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        similar_nodes(torch.tensor([0, 1]), torch.tensor([2, 3]), **{"num_nodes": 4} | options)


class Cache:
    """A file of similar nodes of a small stream, and a count of how often they were computed."""

    def __init__(self, folder, monkeypatch):
        self.path = folder / "stream.similar.npz"
        self.computed = 0
        self.options = {"fingerprint": "abc", "size": 3, "max_degree": 9}
        generator = torch.Generator().manual_seed(0)
        self.src, self.dst = torch.randint(9, (2, 20), generator=generator)

        def counting(*args, **options):
            self.computed += 1
            return similar_nodes(*args, **options)

        monkeypatch.setattr(module, "similar_nodes", counting)

    def ask(self, num_events=20, num_nodes=9, **options):
        """Returns how often similar nodes were computed for this call; what it gave must be right."""
        before = self.computed
        options = self.options | options
        similar = load_or_compute(self.path, self.src[:num_events], self.dst[:num_events], num_nodes, **options)
        expected = loop_similar(
            self.src[:num_events], self.dst[:num_events], num_nodes, options["size"], options["max_degree"]
        )
        assert similar.index.equal(expected)
        assert similar.index.dtype == torch.long
        return self.computed - before


@pytest.fixture
def cache(tmp_path, monkeypatch):
    return Cache(tmp_path, monkeypatch)


def test_similar_nodes_are_computed_once_and_then_read(cache):
    assert [cache.ask(), cache.ask(), cache.ask()] == [1, 0, 0]
    assert [file.name for file in cache.path.parent.iterdir()] == [cache.path.name]


def test_what_is_read_may_be_written_to(cache):
    cache.ask()
    load_or_compute(cache.path, cache.src, cache.dst, 9, **cache.options).index.zero_()
    assert cache.ask() == 0


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "abd"}, {"size": 4}, {"max_degree": 2}, {"num_events": 19}, {"num_nodes": 10}],
    ids=lambda change: next(iter(change)),
)
def test_other_events_or_options_replace_the_file(cache, change):
    assert [cache.ask(), cache.ask(**change), cache.ask(**change), cache.ask()] == [1, 1, 0, 1]


def test_a_damaged_file_is_replaced_wherever_the_damage_is(cache):
    cache.ask()
    whole = cache.path.read_bytes()
    damaged = [b"", b"not a file of similar nodes", whole[:-30], whole[: len(whole) // 2]]
    # A byte of the numbers themselves, which nothing but a checksum can tell from another similar node.
    begin = whole.index(b"index.npy") + 200
    for at in (begin, begin + 8, begin + 100):
        damaged.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for content in damaged:
        cache.path.write_bytes(content)
        assert [cache.ask(), cache.ask()] == [1, 0]


def test_a_file_with_a_pickle_in_it_is_not_run_but_replaced(cache):
    with cache.path.open("wb") as file:
        np.savez(file, key=np.array([print], dtype=object), index=np.zeros((9, 3), dtype=np.int64))
    assert [cache.ask(), cache.ask()] == [1, 0]


def test_a_file_that_is_replaced_can_be_read_to_its_end(cache):
    cache.ask()
    whole = cache.path.read_bytes()
    with cache.path.open("rb") as reader:
        assert cache.ask(size=4) == 1
        assert reader.read() == whole


def test_a_write_that_fails_leaves_the_old_file_and_no_partial_one_and_warns(cache, monkeypatch):
    cache.ask()
    whole = cache.path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match=r"stream\.similar\.npz: .*No space left on device"):
            assert cache.ask(size=4) == 1
    assert cache.path.read_bytes() == whole
    assert [file.name for file in cache.path.parent.iterdir()] == [cache.path.name]


def test_a_folder_that_is_missing_costs_a_warning_but_not_the_result(cache):
    cache.path = cache.path.parent / "missing" / "stream.npz"
    with pytest.warns(UserWarning, match="make the folder writable"):
        assert cache.ask() == 1
