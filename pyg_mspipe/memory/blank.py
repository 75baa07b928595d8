"""Tensors of zeros to which nobody has written yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


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
