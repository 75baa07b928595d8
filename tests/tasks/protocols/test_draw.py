from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.tasks.protocols import draw
from pyg_mspipe.tasks.protocols.draw import draw_distinct, draw_outside
from pyg_mspipe.tasks.protocols.spans import items, place


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=8)


@settings(deadline=None)
@given(rows, st.integers(0, 5))
def test_each_row_has_as_many_distinct_numbers_as_it_wants_and_has(rows, seed):
    available, num = torch.tensor(rows).t()
    out = draw_distinct(available, num, seeded(seed))
    assert out.shape == (len(rows), int(num.max()))
    for (own, wanted), row in zip(rows, out.tolist(), strict=True):
        there = row[: min(own, wanted)]
        assert len(set(there)) == len(there)
        assert all(0 <= x < own for x in there)
        assert row[len(there) :] == [-1] * (len(row) - len(there))


@pytest.mark.parametrize(("available", "num"), [(5, 2), (5, 3), (30, 3), (2**40, 4)])
def test_rows_that_are_shuffled_and_rows_that_are_drawn_again_take_their_numbers_from_all(available, num):
    out = draw_distinct(torch.full((4000,), available), torch.full((4000,), num), seeded())
    assert all(len(set(row)) == num for row in out.tolist())
    for column in out.t():
        assert int(column.min()) < 0.05 * available or available == 5
        assert int(column.max()) >= 0.95 * available - 1


@pytest.mark.parametrize("dense", [4, 0])
def test_every_choice_in_every_order_is_equally_likely(dense, monkeypatch):
    monkeypatch.setattr(draw, "_DENSE", dense)
    size = 60_000
    out = draw_distinct(torch.full((size,), 4), torch.full((size,), 2), seeded())
    counts = Counter(map(tuple, out.tolist()))
    assert set(counts) == {pair for both in combinations(range(4), 2) for pair in (both, both[::-1])}
    assert all(abs(count - size / 12) < 5 * (size / 12) ** 0.5 for count in counts.values())


def test_blocks_do_not_change_what_each_row_may_have(monkeypatch):
    monkeypatch.setattr(draw, "BLOCK", 10)
    available, num = torch.tensor([3, 200, 9, 0, 50, 4] * 5), torch.tensor([5, 7, 4, 3, 2, 4] * 5)
    for own, wanted, row in zip(available, num, draw_distinct(available, num, seeded()).tolist(), strict=True):
        there = [x for x in row if x >= 0]
        assert len(set(there)) == len(there) == min(own, wanted)
        assert all(x < own for x in there)


@settings(deadline=None)
@given(
    st.integers(0, 6),
    st.integers(0, 12),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=30),
)
def test_what_is_drawn_outside_is_in_the_range_and_not_forbidden_and_may_be_all_of_that(low, size, num, forbidden):
    forbidden = [(row, x) for row, x in forbidden if row < len(num)]
    row, value = torch.tensor(forbidden, dtype=torch.long).reshape(-1, 2).t()
    out = draw_outside(low, low + size - 1, torch.tensor(num), row, value, seeded()).tolist()
    for n, (wanted, found) in enumerate(zip(num, out, strict=True)):
        allowed = set(range(low, low + size)) - {x for of, x in forbidden if of == n}
        there = [x for x in found if x >= 0]
        assert len(there) == len(set(there)) == min(wanted, len(allowed))
        assert set(there) <= allowed


def test_each_allowed_number_is_drawn_equally_often():
    num = torch.full((30_000,), 2)
    row = torch.arange(30_000).repeat_interleave(3)
    out = draw_outside(10, 16, num, row, torch.tensor([10, 13, 14]).repeat(30_000), seeded())
    counts = torch.bincount(out.flatten(), minlength=17)
    assert counts[[10, 13, 14]].tolist() == [0, 0, 0]
    assert all(abs(int(counts[x]) - 15_000) < 600 for x in (11, 12, 15, 16))


def test_large_ranges_are_drawn_from_without_a_place_for_each_number():
    out = draw_outside(5, 5 + 10**9, torch.tensor([1000, 1000]), torch.tensor([0]), torch.tensor([7]), seeded())
    assert out.shape == (2, 1000)
    assert len(set(out[0].tolist())) == len(set(out[1].tolist())) == 1000
    assert int(out.min()) >= 5


def test_items_are_those_of_each_list_in_turn():
    row, at = items(torch.tensor([4, 0, 9]), torch.tensor([6, 0, 12]))
    assert row.tolist() == [0, 0, 2, 2, 2]
    assert at.tolist() == [4, 5, 9, 10, 11]


def test_places_are_those_of_numbers_that_are_there():
    assert place(torch.tensor([2, 5, 9]), torch.tensor([9, 3, 2, 11, -1])).tolist() == [2, -1, 0, -1, -1]
    assert place(torch.tensor([], dtype=torch.long), torch.tensor([3])).tolist() == [-1]
