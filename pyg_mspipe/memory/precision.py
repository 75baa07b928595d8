"""The precision of products: what autocast asks for, and where it is not asked."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype in which matrix products of ``x`` are to be computed: autocast's where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def full_precision(kind: str) -> AbstractContextManager[object]:
    """Returns a context in which autocast changes nothing on a kind of device; where it is off, one of no effect.

    A Ctrl-C while autocast is entered leaves torch's count of its contexts too high, and casts of weights are then
    never forgotten in that thread: so what needs no context enters none.

    Args:
        kind: Such as ``"cuda"``.
    """
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
