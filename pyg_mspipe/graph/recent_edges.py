"""The most recent edges of nodes on a CPU, in numpy: a call on few items takes it a fraction of torch's time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_mspipe.graph.temporal_csr import TemporalCSR


def recent_edges(csr: TemporalCSR, n_id: Tensor, bound: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns ``(n_id, edge_index, e_id)`` as ``NeighborSampler.__call__`` does, of one hop.

    Args:
        csr: The stream's history, on a CPU.
        n_id: Int64[Q], in any order and as often as wanted.
        bound: The first event that is not seen, ``0..E``.
        k: How many edges to take into each node.
    """
    key, other, indptr = csr.key.numpy(), csr.neighbor.numpy(), csr.indptr.numpy()
    node = n_id.long().numpy()
    if not (node[1:] > node[:-1]).all():  # PyG's loader of events gives them sorted
        node = np.unique(node)
    end = key.searchsorted(node * csr.num_events + bound)
    count = np.minimum(end - indptr[node], k)
    row = np.arange(node.size).repeat(count)
    # The j-th edge of a row is its entry end - j; before it stand j - 1 edges of the row and all of earlier rows.
    entry = (end + count.cumsum() - count)[row] - np.arange(1, row.size + 1)
    reached, position = _unique(np.concatenate([node, other[entry]]))
    edge_index = np.stack([position[node.size :], position[row]])
    e_id = key[entry] % csr.num_events
    return torch.from_numpy(reached), torch.from_numpy(edge_index), torch.from_numpy(e_id)


def _unique(
    node: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the nodes sorted, each once, and where each item of ``node`` is among them."""
    # Node and place as one number: a sort of numbers is several times as fast as one that tells their places too. They
    # stay below 2^63 for all nodes and edges that a memory could hold.
    bits = node.size.bit_length()
    packed = node << bits
    packed |= np.arange(node.size)
    packed.sort()
    ordered = packed >> bits
    new = np.ones(node.size, dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    position = np.empty_like(node)
    position[packed & ((1 << bits) - 1)] = new.cumsum() - 1
    return ordered[new], position
