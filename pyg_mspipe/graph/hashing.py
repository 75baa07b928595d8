"""Random numbers as a pure function of integers, the same on every device and thread."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK_64 = (1 << 64) - 1


def _signed(x: int) -> int:
    """Returns the Int64 with the low 64 bits of ``x``."""
    x &= _MASK_64
    return x - (1 << 64) if x >> 63 else x


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Returns the logical right shift of ``x``; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Returns the finaliser of SplitMix64 (Steele et al. 2014) of Int64 ``x``, with wrap-around."""
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def uniform_hash(seed: int, epoch: int, first: Tensor, second: Tensor, count: int) -> Tensor:
    """Returns Float64[Q, count] in [0, 1), uniform and independent for different arguments and columns.

    Args:
        seed: Any integer.
        epoch: Any integer.
        first: Int64[Q].
        second: Int64[Q].
        count: How many draws for each ``(first, second)``.
    """
    golden = 0x9E3779B97F4A7C15
    x = _mix(first + _signed((seed + 1) * golden))
    x = _mix(x + second * _signed(golden))
    column = torch.arange(1, count + 1, device=x.device) * _signed(golden)
    x = _mix(x.unsqueeze(1) + (column + _signed((epoch + 1) * 0xD1B54A32D192ED03)))
    return _shift_right(x, 11).to(torch.float64) * 2.0**-53
