"""Runs of which nothing is left to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def is_finished(progress: dict[str, Any], epochs: int) -> bool:
    """Returns whether nothing is left to train."""
    return bool(progress["stopped"] or progress["epoch"] >= epochs)


def finished(folder: Path, progress: dict[str, Any]) -> str:
    """Returns what to tell of a run that is finished."""
    epochs = progress["epoch"]
    return f"{folder} is finished; to train more than {epochs} epochs give --epochs, or see: mspipe evaluate {folder}"
