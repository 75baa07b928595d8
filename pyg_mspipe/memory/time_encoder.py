"""The time encoder ``cos(w t + b)``, quick for large arguments too."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.nn.models.tgn import TimeEncoder as PyGTimeEncoder

from pyg_mspipe._choices import TimeInit
from pyg_mspipe.memory.precision import full_precision

_TWO_PI = 2 * math.pi
# Two pi in parts of few bits, but for the last: up to _FEW_TURNS times one of them is exact in float32.
_PARTS = (6.25, 2.0**-5, 2.0**-9, _TWO_PI - 6.25 - 2.0**-5 - 2.0**-9)
_FEW_TURNS = 2.0**19
# Up to here a double of two pi is fine enough.
_MANY_TURNS = 2.0**30


def _remainder(x: Tensor) -> Tensor:
    """Returns ``x``: Float32[...], less the nearest multiple of two pi, to within 1e-6.

    Of more turns than these it returns ``x`` itself in double precision, of which sine and cosine are exact.
    """
    turns = (x * (1 / _TWO_PI)).round_()
    low, high = torch.aminmax(turns)
    most = max(-low.item(), high.item())
    if not most < _MANY_TURNS:
        return x.double()
    if most < _FEW_TURNS:
        x = torch.sub(x, turns, alpha=_PARTS[0])
        for part in _PARTS[1:]:
            x.sub_(turns, alpha=part)
        return x
    exact = x.double()
    return exact.sub_((exact * (1 / _TWO_PI)).round_(), alpha=_TWO_PI).float()


class _Cosine(torch.autograd.Function):
    """``cos(x)`` by way of ``x`` modulo two pi.

    Sine and cosine of arguments around 10^6 cost five times those of small ones on a CPU. The remainder serves the
    backward's sine as well.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        dtype = x.dtype
        if dtype is torch.float32 and not x.is_cuda and x.numel():
            x = _remainder(x)
        ctx.save_for_backward(x)
        return x.cos().to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x: Tensor
        (x,) = ctx.saved_tensors
        return x.sin().to(grad.dtype).mul_(grad).neg_()


class TimeEncoder(PyGTimeEncoder):
    """Returns ``cos(w t + b)`` of time differences: ``[M] -> [M, out_channels]``.

    PyG's own encoder with the same parameters and numbers, faster on a CPU, and a choice of where it starts.

    Args:
        out_channels: Width of the encoding.
        init: ``"random"`` starts like PyG, with ``w`` and ``b`` uniform in [-1, 1]; ``"log"`` starts with the fixed
            frequencies ``w = 10^-linspace(0, 9)`` and ``b = 0`` (Xu et al. 2020, as in the TGN and TGL code), which
            cover spans from a unit of time to 10^9 of them. Both are trained.

    Raises:
        ValueError: If ``init`` is unknown.
    """

    def __init__(self, out_channels: int, init: TimeInit = "random") -> None:
        if init not in get_args(TimeInit):
            raise ValueError(f"time_init={init!r} is unknown; choose one of {', '.join(get_args(TimeInit))}")
        self.init = init
        super().__init__(out_channels)
        self._start()

    def reset_parameters(self) -> None:
        """Sets the parameters to their start."""
        super().reset_parameters()
        self._start()

    def _start(self) -> None:
        # Apart from the random start, so that a seed gives as many draws, and so the same weights, as with PyG's.
        if self.init == "log":
            with torch.no_grad():
                frequencies = 10 ** -torch.linspace(0, 9, self.out_channels, dtype=torch.float64)
                self.lin.weight.copy_(frequencies.unsqueeze(1))
                self.lin.bias.zero_()

    def forward(self, t: Tensor) -> Tensor:
        """Returns the encoding of ``t``: any shape, floating; ``M`` items give ``[M, out_channels]``."""
        # Autocast would round arguments of 10^6 to multiples of thousands.
        with full_precision(t.device.type):
            if torch.compiler.is_compiling():  # which has a cosine of its own, and would ask for the largest argument
                out: Tensor = self.lin(t.view(-1, 1)).cos()
            else:
                out = _Cosine.apply(self.lin(t.view(-1, 1)))  # type: ignore[no-untyped-call]
        return out
