"""The device that a run computes on."""

from __future__ import annotations

import os

import torch

from pyg_mspipe.training.config import ConfigError


def pick_device(name: str) -> torch.device:
    """Returns the device that a setting names; for ``"cuda"`` under torchrun, this process's GPU among the host's.

    Args:
        name: ``"auto"``, or what ``torch.device`` takes.

    Raises:
        ConfigError: If the device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on a device without values, such as meta
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} is not available here; use cpu or auto") from error
    return device
