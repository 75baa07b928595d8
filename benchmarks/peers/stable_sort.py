"""PyG's classes with stable sorts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def stable_sort() -> Iterator[None]:
    """Makes ``Tensor.sort`` stable.

    PyG's ``LastNeighborLoader`` and ``TGNMemory`` count on it to keep the order of equal nodes, which it does not
    promise, and does not keep. Where each node is either a source or a destination, the loader then keeps the most
    recent neighbours; of other nodes it has events as a destination before those as a source, so that it still may not.
    """
    sort = Tensor.sort

    def stable(self: Tensor, *args: Any, **options: Any) -> Any:
        return torch.sort(self, *args, **{"stable": True, **options})

    Tensor.sort = stable  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.sort = sort  # type: ignore[method-assign]
