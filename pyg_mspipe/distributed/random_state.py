"""The state of torch's random generators, from which dropout draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

RandomState = dict[str, Tensor | None]
"""States of the generators by name: the CPU's, and a GPU's if the run has one."""


def random_state(device: torch.device) -> RandomState:
    """Returns the state of the CPU's generator and, on a GPU, of that GPU's."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"rng": torch.get_rng_state(), "rng_cuda": cuda}


def set_random_state(device: torch.device, state: RandomState) -> None:
    """Sets the generators to the result of :func:`random_state`; a GPU's only if the result has one."""
    assert state["rng"] is not None
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["rng_cuda"] is not None:
        torch.cuda.set_rng_state(state["rng_cuda"], device)


@contextmanager
def own_random_state(device: torch.device, state: RandomState) -> Iterator[None]:
    """Has torch draw from a random state in the ``with`` block, and then updates ``state``.

    Args:
        device: The device of the computation.
        state: The result of :func:`random_state`.
    """
    set_random_state(device, state)
    try:
        yield
    finally:
        state.update(random_state(device))
