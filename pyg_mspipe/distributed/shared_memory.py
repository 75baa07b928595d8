"""Shared memory of a host: tensors that its processes share, and how many bytes it has for them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

_ALIGN = 64
_SHM = Path("/dev/shm")


class SharedMemoryError(RuntimeError):
    """The host has too little shared memory; the text says how to mend it."""


def share(tensors: dict[str, Tensor], group: dist.ProcessGroup | None, leader: int) -> dict[str, Tensor]:
    """Returns tensors with the leader's content in memory that all processes of a group see.

    When this returns, the memory has no name any more: the system frees it when the last of the processes ends, in
    whatever way.

    Args:
        tensors: Tensors on the CPU, with the same names, shapes and dtypes in every process.
        group: The processes, all on one host; each of them calls this.
        leader: The rank whose content the shared tensors get.

    Raises:
        SharedMemoryError: If the host has too little shared memory; raised in every process of the group.
    """
    offsets, size = _layout(tensors)
    leads = dist.get_rank() == leader
    made: list[str | None] = [None, None]
    if leads:
        try:
            made[0] = _make_file(size)
        except OSError as error:
            made[1] = f"{size / 2**20:,.0f} MiB of shared memory is not available in {_folder()}: {error.strerror}"
    dist.broadcast_object_list(made, src=leader, group=group)
    path, problem = made
    if path is None:
        raise SharedMemoryError(f"{problem}; give more (in a container: --shm-size), or take a smaller k or memory_dim")
    whole = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
    dist.barrier(group)
    if leads:
        Path(path).unlink()
    shared = {name: _view(whole, offsets[name], like) for name, like in tensors.items()}
    if leads:
        for name, value in tensors.items():
            shared[name].copy_(value)
    dist.barrier(group)
    return shared


def spare_host_memory() -> int:
    """Returns how many bytes the memory groups of this host may take together.

    That is half of what is available, as trainers have their own copies of the stream and the model, and no more than
    ``/dev/shm`` has. Of a container's limits only that on ``/dev/shm`` is seen.
    """
    report = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s*(\d+) kB", report.read_text(), re.MULTILINE) if report.is_file() else None
    available = int(found[1]) * 1024 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(available // 2, shutil.disk_usage(_SHM).free) if _SHM.is_dir() else available // 2


def _layout(tensors: dict[str, Tensor]) -> tuple[dict[str, int], int]:
    """Returns where each tensor begins, and the size of all together, in bytes."""
    offsets, end = {}, 0
    for name, value in tensors.items():
        offsets[name] = end
        end += -(-value.numel() * value.element_size() // _ALIGN) * _ALIGN
    return offsets, max(end, _ALIGN)


def _view(whole: Tensor, offset: int, like: Tensor) -> Tensor:
    size = like.numel() * like.element_size()
    return whole[offset : offset + size].view(like.dtype).view(like.shape)


def _folder() -> Path:
    return _SHM if _SHM.is_dir() else Path(tempfile.gettempdir())


def _make_file(size: int) -> str:
    """Returns the path of a file whose space is reserved, so that writing to it later cannot fail."""
    descriptor, path = tempfile.mkstemp(prefix="mspipe-", dir=_folder())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
    except BaseException:
        Path(path).unlink()
        raise
    finally:
        os.close(descriptor)
    return path
