"""Which operations make the host wait for a GPU, and so cannot stand in a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WAITS = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
_COPIES = {"_to_copy", "copy_"}


class WaitError(RuntimeError):
    """Something cannot be recorded, since it depends on what only the device or the batch knows."""


class NoWaits(TorchDispatchMode):
    """Watches the operations of a context, its backward passes too, for those that wait for a GPU.

    Attributes:
        found: The names of such operations, each once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if _waits(name, args, out) and name not in self.found:
            self.found.append(name)
        return out


def _waits(name: str, args: Any, out: Any) -> bool:
    if name in _WAITS or (name == "repeat_interleave" and (len(args) < 2)):
        return any(x.is_cuda for x in _flat(args))
    if name in _INDEXED:
        return any(x.is_cuda and x.dtype in (torch.bool, torch.uint8) for x in _flat(args[1]))
    if name in _COPIES:
        ends = [x.is_cuda for x in (*_flat(args), *_flat((out,)))]
        return any(ends) and not all(ends)
    return False


def _flat(args: Any) -> Iterator[Tensor]:
    for each in args:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _flat(each)
