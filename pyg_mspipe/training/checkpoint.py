"""Checkpoints: whole or not there at all, and read without running code from them."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import TemporalData

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with how to mend it."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values, so that ``path`` holds either all of them or what it held before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            torch.save({"format": _FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if os.name == "nt":  # which has no way to sync a folder
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Returns what :func:`save_checkpoint` wrote, with all tensors on the CPU.

    Raises:
        CheckpointError: If there is no such file, or it is not a checkpoint of this format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; give the folder of a run, or its checkpoint file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of pyg_mspipe, or damaged; give another file") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path}: checkpoint format {found}, this version reads {_FORMAT}; train again")
    return content


def fingerprint(data: TemporalData) -> str:
    """Returns a digest of a stream's events, times and messages, by which a checkpoint knows its stream."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("src", "dst", "t", "msg"):
        value = data[name].cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(memoryview(value.numpy()).cast("B") if value.numel() else b"")
    return digest.hexdigest()
