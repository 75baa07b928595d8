"""Checks of what a loop hands to a memory, and of what it is made of."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator


def check_ids(name: str, ids: Tensor, num_nodes: int) -> None:
    """Refuses what is no node's id; on a GPU, where looking would mean to wait, by its type alone.

    Args:
        name: The argument, for the message.
        ids: Int64[M].
        num_nodes: Number of nodes ``N``.

    Raises:
        ValueError: If an id is not a whole number from 0 to below ``N``.
    """
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {ids.dtype}; give node ids as int64")
    if ids.device.type == "cpu" and ids.numel():
        low, high = (int(x) for x in ids.aminmax())
        if low < 0 or high >= num_nodes:
            wrong = low if low < 0 else high
            raise ValueError(f"{name} holds {wrong}; node ids go from 0 to {num_nodes - 1}, num_nodes - 1")


def check_events(src: Tensor, dst: Tensor, t: Tensor, num_nodes: int) -> None:
    """Refuses what are no events.

    Args:
        src: Int64[B].
        dst: Int64[B].
        t: Int64[B].
        num_nodes: Number of nodes ``N``.

    Raises:
        ValueError: If ``t`` is not integral, the lengths differ, or an id is no node's.
    """
    if t.is_floating_point():
        raise ValueError(f"t has dtype {t.dtype}; give whole times as int64, in a finer unit if need be")
    for name, x in (("src", src), ("dst", dst), ("t", t)):
        if x.dim() != 1 or x.numel() != src.numel():
            raise ValueError(f"{name} has shape {tuple(x.shape)}, not ({src.numel()},); give one for each event")
    check_ids("src", src, num_nodes)
    check_ids("dst", dst, num_nodes)


_OF_PYG = ("_reset_message_store", "_update_memory", "_get_updated_memory", "_update_msg_store", "_compute_msg")


def check_overrides(kind: type) -> None:
    """Refuses a subclass of our memory that was written for PyG's, with other private methods.

    Args:
        kind: The class.

    Raises:
        TypeError: If it has such a method.
    """
    found = [name for name in _OF_PYG if hasattr(kind, name)]
    if found:
        raise TypeError(
            f"{kind.__name__} defines {', '.join(found)}, which PyG's TGNMemory calls and this one does not; give "
            f"it a message_module or an aggregator_module of your own instead, or override compute"
        )


def note_namesakes(*modules: Module) -> None:
    """Warns of modules that bear the name of one of PyG's and are another class.

    Args:
        modules: Message modules and aggregators.
    """
    for module in modules:
        kind = type(module)
        namesake = {"IdentityMessage": IdentityMessage, "LastAggregator": LastAggregator}.get(kind.__name__)
        if namesake is not None and not issubclass(kind, namesake):
            warnings.warn(
                f"{kind.__module__}.{kind.__name__} is another class than PyG's of that name, so it is called for "
                f"every message; if it does the same, PyG's is faster: from torch_geometric.nn.models.tgn import "
                f"{kind.__name__}",
                stacklevel=3,
            )
