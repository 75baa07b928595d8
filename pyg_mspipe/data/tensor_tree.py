"""Tensors within dataclasses, tuples, lists and mappings: all of them, others in their place, and on another device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Fixed(Generic[T]):
    """Something within a tree that stays what and where it is, whatever becomes of the tensors around it.

    Args:
        value: What it is.
    """

    def __init__(self, value: T) -> None:
        self.value = value


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Yields the tensors of dataclasses, tuples, lists and mappings within one another; one may come twice."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for each in tree.values():
            yield from tensors_of(each)
    elif isinstance(tree, tuple | list):
        for each in tree:
            yield from tensors_of(each)
    elif is_dataclass(tree):
        for field in fields(tree):
            yield from tensors_of(getattr(tree, field.name))


def map_tensors(tree: T, change: Callable[[Tensor], Tensor]) -> T:
    """Returns the same with another tensor in place of each; one that stands in several places is changed once.

    Args:
        tree: Dataclasses, tuples, named ones too, lists and mappings within one another; all else stays as it is.
        change: Returns what stands in the place of a tensor.
    """
    result: T = _mapped(tree, change, {})
    return result


def _mapped(tree: Any, change: Callable[[Tensor], Tensor], done: dict[int, Tensor]) -> Any:
    # No function within a function: one that calls itself would keep the tensors until the next garbage collection.
    if isinstance(tree, Tensor):
        if id(tree) not in done:
            done[id(tree)] = change(tree)
        return done[id(tree)]
    if isinstance(tree, Mapping):
        return {name: _mapped(value, change, done) for name, value in tree.items()}
    if isinstance(tree, tuple | list):
        values = [_mapped(value, change, done) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(**{field.name: _mapped(getattr(tree, field.name), change, done) for field in fields(tree)})
    return tree


def with_index(device: torch.device) -> torch.device:
    """Returns a device as tensors on it name it: ``"cuda"`` alone is the current GPU."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def ship(tree: T, device: torch.device) -> T:
    """Returns the same on a device; between CPU and GPU all tensors travel together, in one copy.

    To a GPU the host does not wait for it: what is launched on the current stream from then on finds it there.

    Args:
        tree: As :func:`map_tensors` takes it.
        device: The device.
    """
    device = with_index(device)
    afar = {id(x): x for x in tensors_of(tree) if x.device != device}
    if not afar:
        return tree
    # The widest numbers come first, so that those of each width begin where they may.
    flat = sorted(afar.values(), key=lambda x: (-x.element_size(), str(x.dtype)))
    source, to_host = flat[0].device, device.type == "cpu"
    if {source.type, device.type} != {"cpu", "cuda"}:
        return map_tensors(tree, lambda x: x.to(device))
    nbytes = sum(x.numel() * x.element_size() for x in flat)
    # Page-locked memory is torch's to keep: it is used again once the copies out of it are over.
    staged = torch.empty(nbytes, dtype=torch.uint8, device=source, pin_memory=source.type == "cpu")
    groups, begin = [], 0
    for dtype, group in groupby(flat, key=lambda x: x.dtype):
        members = list(group)
        part = slice(begin, begin + sum(x.numel() for x in members) * dtype.itemsize)
        torch.cat([x.reshape(-1) for x in members], out=staged[part].view(dtype))
        groups.append((dtype, members, part))
        begin = part.stop
    arrived = staged.to(device, non_blocking=not to_host)
    there: dict[int, Tensor] = {}
    for dtype, members, part in groups:
        pieces = arrived[part].view(dtype).split([x.numel() for x in members])
        for x, piece in zip(members, pieces, strict=True):
            there[id(x)] = piece if x.dim() == 1 else piece.view(x.shape)
    return map_tensors(tree, lambda x: there.get(id(x), x))
