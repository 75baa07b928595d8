"""PyG's class of streams, loaded when the first stream is made: PyG takes as long to load as PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from pyg_mspipe._loading import loading

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

    from pyg_mspipe.data.stream_folder import StreamFolder


FOLDER = "_stream_folder"
"""The attribute of a stream that says which folder it is of, if it is of any."""


class FolderFields(dict[str, Tensor]):
    """The fields of a stream folder.

    Args:
        folder: The folder.
        fields: Its fields.
    """

    def __init__(self, folder: StreamFolder, fields: Mapping[str, Tensor]) -> None:
        super().__init__(fields)
        self.folder = folder


def temporal_data(fields: Mapping[str, Tensor]) -> TemporalData:
    """Returns a stream, not checked.

    Args:
        fields: ``src``, ``dst`` and ``t`` of its events, ``[E]`` each, and whatever else they have, such as
            ``msg: [E, D]``.
    """
    with loading():
        from torch_geometric.data import TemporalData
    data = TemporalData(**fields)
    if isinstance(fields, FolderFields):
        data.__dict__[FOLDER] = fields.folder  # beside the store, whose entries PyG takes for tensors
    return data


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
