"""Checkpoints: whole or not there at all, and read without running code from them."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.data.stream_folder import folder_of

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

    from pyg_mspipe.data import Labels

_FORMAT = 3


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with how to mend it."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain values, so that ``path`` holds either all of them or what it held before.

    Args:
        path: The file to write, in a folder that exists.
        content: Tensors and plain values by name, in dictionaries and lists of any depth.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        with atomic_write(path) as file:
            torch.save({"format": _FORMAT, **content}, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides why a write failed behind an error of its own
            raise OSError(error.__context__.errno, error.__context__.strerror, str(path)) from error
        raise


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Returns what :func:`save_checkpoint` wrote, with all tensors on the CPU.

    Args:
        path: The file.

    Raises:
        CheckpointError: If there is no such file, or it is not a checkpoint of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; {_why_missing(path)}")
    with path.open("rb") as file:
        try:
            content = _read(file)
        except Exception as error:  # a damaged file may raise any error
            raise CheckpointError(f"{path}: not a checkpoint of pyg_mspipe, or damaged; give another file") from error
    checkpoint: dict[str, Any] = content if isinstance(content, dict) else {}
    found = checkpoint.get("format")
    if type(found) is not int or found != _FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {found}, this version reads {_FORMAT}; train again")
    return checkpoint


def _read(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()  # torch itself would take flipped bits for weights
        if damaged is None:
            # What is marked as a folder torch reads as zeros, whatever it holds.
            damaged = next((each.filename for each in archive.infolist() if each.external_attr or each.is_dir()), None)
    if damaged is not None:
        raise zipfile.BadZipFile(f"checksum of {damaged}")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of files that it did not write
        return torch.load(file, map_location="cpu", weights_only=True)


def fingerprint(data: TemporalData, labels: Labels | None = None) -> str:
    """Returns a digest of a stream's events, times, messages and labels, by which a checkpoint knows its stream.

    Args:
        data: The stream.
        labels: Its labels, if a run uses any.
    """
    folder = folder_of(data)
    if folder is not None and labels is None:
        if data.msg is folder.tensors["msg"]:
            return str(folder.manifest["fingerprint"]["stream"])
        if not data.msg.size(1):
            return str(folder.manifest["fingerprint"]["without_messages"])
    digest = hashlib.blake2b(digest_size=16)
    values = {name: data[name] for name in ("src", "dst", "t", "msg")}
    if labels is not None:
        values |= {"event": labels.event, "node": labels.node, "moment": labels.t, "y": labels.y}
    for name, found in values.items():
        value = found.cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(memoryview(value.numpy()).cast("B") if value.numel() else b"")
    return digest.hexdigest()


def _why_missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} is a file, not the folder of a run" if folder.exists() else f"{folder} does not exist"
    others = sorted(each.parent.name for each in folder.glob(f"*/{path.name}"))
    if others:
        return f"the folders {', '.join(others[:10])}{', ...' if len(others) > 10 else ''} in {folder} have one"
    return "a run has last.pt after checkpoint_every batches or its first epoch, and best.pt after its first validation"
