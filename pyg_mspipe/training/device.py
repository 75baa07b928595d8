"""The device that a run computes on."""

from __future__ import annotations

import os

import torch

from pyg_mspipe.training.config import ConfigError


def pick_device(name: str) -> torch.device:
    """Returns the device of a setting; among the GPUs of a host the one of this process, where torchrun has started it.

    Args:
        name: ``"auto"``, or what ``torch.device`` takes.

    Raises:
        ConfigError: If it is not to be had.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which a device without values, such as meta, has not
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not to be had here; use cpu or auto") from error
    return device
