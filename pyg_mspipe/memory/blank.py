"""Rows of zeros to which nobody has written yet: they are not in RAM, and need not be zeroed again."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def zero_rows(*shape: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
    """Returns zeros; on a CPU the system gives them a place in RAM page by page, as they are written to.

    Args:
        *shape: The shape.
        dtype: By default torch's.
        device: By default torch's.
    """
    place = torch.empty(0, device=device).device
    dtype = dtype or torch.get_default_dtype()
    if place.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=place)
    # Torch writes its zeros, and so takes seconds for the memory of many nodes.
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


class Blank:
    """Remembers that tensors are zero, and tells whether they may be otherwise by now.

    PyTorch counts the writes to a tensor within one process, but not to one that was made in inference mode.

    Args:
        tensors: The tensors, zero at this moment.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._known = [(x, None if x.is_inference() else x._version) for x in tensors]

    def still(self, tensors: Iterable[Tensor]) -> bool:
        """Returns whether tensors are these, and surely zero.

        Args:
            tensors: In the same order.
        """
        known = zip(self._known, tensors, strict=True)
        return all(count is not None and x is own and x._version == count for (x, count), own in known)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        # Counts of copies begin anew, so of copies nothing is known.
        return None
