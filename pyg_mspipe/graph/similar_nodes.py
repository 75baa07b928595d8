"""Similar nodes: nodes that share many of their neighbours in the training events."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_mspipe.data.atomic_write import atomic_write, refuse_devices

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_FORMAT = 1

# How many shared neighbours are counted at once. This number and the largest row bound the memory needed.
_BLOCK_WORK = 1 << 21

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SimilarNodes:
    """The nodes most similar to each of ``N`` nodes.

    Attributes:
        index: Int64[N, size], the most similar first, -1 past the last.
    """

    index: Tensor

    @property
    def num_nodes(self) -> int:
        """The number of nodes ``N``."""
        return self.index.size(0)


def similar_nodes(src: Tensor, dst: Tensor, num_nodes: int, *, size: int = 10, max_degree: int = 1000) -> SimilarNodes:
    """Returns for each node the ``size`` nodes whose sets of neighbours have the largest Jaccard index with its own.

    Neighbours are the nodes at the other end of the events given, whatever their direction and number. Give training
    events alone: later events would leak into training. Equally similar nodes are taken in the order of their ids; a
    node is not similar to itself, nor to one with which it shares no neighbour.

    Hubs, nodes with more than ``max_degree`` neighbours, are left out of all sets of neighbours, as common words are
    left out when texts are compared. Two nodes that share nothing but hubs are not similar, and the index of two other
    nodes is that of their sets without hubs. A hub itself has similar nodes like any other node. In a graph without
    hubs the index is exact.
    Leaving hubs out bounds the work, the sum of the squared degrees of all other nodes, by ``2 * max_degree * E``. The
    memory needed is that of the events, of the result, and of blocks of rows of the squared adjacency matrix.

    Args:
        src: Int[E], ids below ``num_nodes``.
        dst: Int[E].
        num_nodes: Number of nodes ``N``.
        size: How many similar nodes to find for each.
        max_degree: How many neighbours a node may have to count as a neighbour.

    Raises:
        ValueError: If an id is out of range, or ``size`` or ``max_degree`` is not positive.
    """
    for name, value in (("size", size), ("max_degree", max_degree)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give a positive number")
    ends: _Ints = torch.stack([src, dst]).cpu().numpy().astype(np.int64)
    if ends.size and not 0 <= ends.min() <= ends.max() < num_nodes:
        raise ValueError(f"node ids span {ends.min()} to {ends.max()}, not 0 to num_nodes - 1 = {num_nodes - 1}")

    neighbors = _neighbors(ends, num_nodes, max_degree)
    holders = neighbors.T.tocsr()
    count: _Ints = np.diff(neighbors.indptr)
    index = np.full((num_nodes, size), -1, dtype=np.int64)
    for begin, end in _blocks(neighbors @ np.diff(holders.indptr).astype(np.int64)):
        shared = neighbors[begin:end] @ holders
        row: _Ints = np.repeat(np.arange(begin, end), np.diff(shared.indptr))
        node: _Ints = shared.indices
        other = row != node
        row, node, common = row[other], node[other], shared.data[other]
        # Two different quotients of integers below 2^26 are different in double precision too.
        jaccard = common / (count[row] + count[node] - common)
        order = np.lexsort((node, -jaccard, row))
        row, node = row[order], node[order]
        rank = np.arange(row.size) - np.searchsorted(row, row)
        best = rank < size
        index[row[best], rank[best]] = node[best]
    return SimilarNodes(torch.from_numpy(index))


def load_or_compute(
    path: Path,
    src: Tensor,
    dst: Tensor,
    num_nodes: int,
    *,
    fingerprint: str,
    size: int = 10,
    max_degree: int = 1000,
) -> SimilarNodes:
    """Returns :func:`similar_nodes`, read from the file ``path`` if it holds them, else computed and written there.

    A file that is damaged, or was made of other events or with other options, is replaced. If the file cannot be
    written, a warning says so, and the next call computes again.

    Args:
        path: The file, best next to the stream's own.
        src: Int[E], the sources of the training events.
        dst: Int[E], their destinations.
        num_nodes: Number of nodes ``N``.
        fingerprint: A digest of the whole stream; together with ``E`` it identifies the events.
        size: See :func:`similar_nodes`.
        max_degree: See :func:`similar_nodes`.
    """
    key = (
        f"format {_FORMAT}, stream {fingerprint}, {src.numel()} events, {num_nodes} nodes, "
        f"size {size}, max_degree {max_degree}"
    )
    index = _read(path, key, (num_nodes, size))
    if index is not None:
        return SimilarNodes(torch.from_numpy(index))
    similar = similar_nodes(src, dst, num_nodes, size=size, max_degree=max_degree)
    try:
        with atomic_write(path) as file:
            np.savez(file, key=np.array(key), index=similar.index.numpy())
    except OSError as error:
        warnings.warn(
            f"{path}: similar nodes are not kept ({error.strerror}) and will be computed again by the next run; "
            "make the folder writable",
            stacklevel=2,
        )
    return similar


def _neighbors(ends: _Ints, num_nodes: int, max_degree: int) -> csr_array:
    """Returns the 0/1 adjacency matrix, int32 [N, N], each event in both directions, with empty columns for hubs."""
    from scipy.sparse import csr_array

    pairs = np.unique(np.concatenate([ends[0] * num_nodes + ends[1], ends[1] * num_nodes + ends[0]]))
    node, neighbor = pairs // num_nodes, pairs % num_nodes
    kept = np.bincount(node, minlength=num_nodes)[neighbor] <= max_degree
    node, neighbor = node[kept], neighbor[kept]
    return csr_array((np.ones(node.size, dtype=np.int32), (node, neighbor)), shape=(num_nodes, num_nodes))


def _blocks(work: _Ints) -> Iterator[tuple[int, int]]:
    """Yields ranges of rows whose work is ``_BLOCK_WORK``, or at most one row more. ``work``: Int64[N], by row."""
    cuts = np.flatnonzero(np.diff(work.cumsum() // _BLOCK_WORK)) + 1
    edges = [0, *cuts.tolist(), work.size]
    yield from pairwise(edges)


def _read(path: Path, key: str, shape: tuple[int, int]) -> _Ints | None:
    """Returns the index that a file holds under ``key``; None if it holds no such index, or is damaged."""
    refuse_devices(path)
    try:
        # numpy checks checksums itself, but would leave a damaged file open; so the file is opened here.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if arrays["key"].item() != key:
                return None
            index: _Ints = arrays["index"]
    except Exception:  # a damaged file may raise any error
        return None
    return index if index.shape == shape and index.dtype == np.int64 else None
