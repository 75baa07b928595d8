import gc
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pyg_mspipe.data.tensor_tree import Fixed, map_tensors, ship, tensors_of


class Pair(NamedTuple):
    name: str
    x: Tensor


@dataclass(frozen=True)
class Tree:
    x: Tensor
    pairs: tuple[Pair, ...]
    named: Mapping[str, Tensor]
    within: "Tree | None" = None
    kept: Fixed[Tensor] | None = None
    count: int = 3


@pytest.fixture
def tree():
    x = torch.arange(3)
    inner = Tree(torch.ones(2, 2), (), {})
    return Tree(x, (Pair("a", x), Pair("b", torch.zeros(0, 4))), {"m": torch.tensor([True])}, inner, Fixed(x))


def test_all_tensors_are_found_in_their_order(tree):
    assert [tuple(x.shape) for x in tensors_of(tree)] == [(3,), (3,), (0, 4), (1,), (2, 2)]


def test_each_tensor_is_changed_once_and_all_else_stays(tree):
    changed = map_tensors(tree, lambda x: x.clone())
    assert changed.x is changed.pairs[0].x
    assert changed.x is not tree.x
    assert type(changed.pairs[0]) is Pair
    assert changed.pairs[1].name == "b"
    assert changed.count == 3
    assert changed.kept.value is tree.x
    assert torch.equal(changed.within.x, tree.within.x)


def test_nothing_is_copied_to_where_it_is(tree):
    assert ship(tree, torch.device("cpu")) is tree


def test_any_other_device_gets_tensors_one_by_one(tree):
    assert {x.device.type for x in tensors_of(ship(tree, torch.device("meta")))} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_comes_back_from_a_device_is_what_was_sent(tree):
    there = ship(tree, torch.device("cuda"))
    assert all(x.is_cuda for x in tensors_of(there))
    assert there.x is there.pairs[0].x
    for own, back in zip(tensors_of(tree), tensors_of(ship(there, torch.device("cpu"))), strict=True):
        assert torch.equal(own, back)
        assert own.dtype is back.dtype


def test_tensors_are_gone_with_what_holds_them(tree):
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(map_tensors(tree, torch.clone).x)
        assert gone() is None
    finally:
        gc.enable()
