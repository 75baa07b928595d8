"""PyG's class of streams, loaded when the first stream is made: PyG takes as long to load as PyTorch."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import Tensor

from pyg_mspipe._loading import loading

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def temporal_data(src: Tensor, dst: Tensor, t: Tensor, msg: Tensor | None = None) -> TemporalData:
    """Returns a stream, not checked.

    Args:
        src: [E], the sources of its events.
        dst: [E], their destinations.
        t: [E], their times.
        msg: [E, D], their messages, if they have any.
    """
    with loading():
        from torch_geometric.data import TemporalData
    return TemporalData(src=src, dst=dst, t=t, msg=msg)


def on_host(data: TemporalData) -> TemporalData:
    """Returns a stream with all that it has on the CPU, but for its messages, which stay where they are.

    Args:
        data: The stream; it is not changed.
    """
    columns = {name: x for name, x in data.to_dict().items() if isinstance(x, Tensor) and name != "msg"}
    if not any(x.is_cuda for x in columns.values()):
        return data
    host = copy.copy(data)
    for name, x in columns.items():
        host[name] = x.cpu()
    return host
