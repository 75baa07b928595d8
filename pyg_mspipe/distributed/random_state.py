"""The state of torch's own random numbers, which dropout draws from."""

from __future__ import annotations

import torch
from torch import Tensor

RandomState = dict[str, Tensor | None]
"""States of generators, by name: the CPU's, and that of a GPU where there is one."""


def random_state(device: torch.device) -> RandomState:
    """Returns the state of the CPU's generator and, on a GPU, of that GPU's."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"rng": torch.get_rng_state(), "rng_cuda": cuda}


def set_random_state(device: torch.device, state: RandomState) -> None:
    """Takes over what :func:`random_state` gave; a GPU's where it was given on a GPU."""
    assert state["rng"] is not None
    torch.set_rng_state(state["rng"])
    if device.type == "cuda" and state["rng_cuda"] is not None:
        torch.cuda.set_rng_state(state["rng_cuda"], device)
