"""The neighbours that two nodes have in common, over no, one and two hops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyg_mspipe.graph.neighbor_sampler import NeighborSample, NeighborSampler
from pyg_mspipe.graph.temporal_csr import TemporalCSR

ORDERS = 3
"""How many kinds of common neighbours there are: of no, one and two hops."""

_MOST_CELLS = 2**24
"""Cells of the largest table, a byte each; events are taken in blocks so that none is larger."""


@dataclass(frozen=True)
class CommonNeighbors:
    """The common neighbours of ``C`` pairs for each of ``B`` events.

    Attributes:
        pair: Int64[G], ascending, ``event * C + number of the pair`` of each pair that has any.
        slot: Int64[M], ascending, ``3 * g + order`` of each common neighbour, where ``g`` is its pair's position in
            ``pair`` and ``order`` is 0, 1 or 2.
        node: Int64[M], which node each is; once the batch's nodes are known, its position in the batch's ``n_id``.
    """

    pair: Tensor
    slot: Tensor
    node: Tensor

    def within(self, n_id: Tensor) -> CommonNeighbors:
        """Returns the same with positions of nodes.

        Args:
            n_id: Int64[U], unique, sorted, with all of the nodes.
        """
        return replace(self, node=torch.searchsorted(n_id, self.node))

    def blocks(self, size: int, count: int) -> Iterator[CommonNeighbors]:
        """Yields those of consecutive blocks of pairs, numbered from 0 in each.

        Args:
            size: Pairs in a block.
            count: How many blocks there are.
        """
        if count == 1:
            # Nothing waits for the device then.
            yield self
            return
        edges = torch.arange(count + 1, device=self.pair.device) * size
        pair_edges = torch.searchsorted(self.pair, edges)
        slot_edges = torch.searchsorted(self.slot, pair_edges * ORDERS).tolist()
        begins = pair_edges.tolist()
        for block in range(count):
            pair = slice(begins[block], begins[block + 1])
            slot = slice(slot_edges[block], slot_edges[block + 1])
            yield CommonNeighbors(
                self.pair[pair] - block * size, self.slot[slot] - ORDERS * pair.start, self.node[slot]
            )


class CommonNeighborFinder:
    """Finds the common neighbours of pairs, after TNCN (Zhang et al. 2024, arXiv 2406.07926).

    ``N(u)`` is the list of the last ``k`` neighbours of ``u``, in which a node stands as often as it was met, and
    ``N2(u)`` the set of the neighbours in the lists of these, without ``u`` itself. Those in common are

    * of no hops: the entries of ``N(u)`` that are ``v``, and those of ``N(v)`` that are ``u``;
    * of one hop: the entries of ``N(u)`` that are in ``N(v)``;
    * of two hops: the entries of ``N(u)`` that are in ``N2(v)``, and those of ``N(v)`` that are in ``N2(u)``.

    On a bipartite stream ``u`` and ``v`` have no neighbour of one hop in common. All lists of a pair are as of its
    bound. The answer depends on the arguments alone, so any thread may ask at any time.

    Args:
        csr: The stream's history.
        num_neighbors: How many neighbours a list has, ``k``.
    """

    def __init__(self, csr: TemporalCSR, num_neighbors: int) -> None:
        self._sampler = NeighborSampler(csr, [num_neighbors, num_neighbors])

    def __call__(self, src: Tensor, dst: Tensor, bound: Tensor | int) -> CommonNeighbors:
        """Returns the common neighbours of pairs.

        Args:
            src: Int64[B], one for all ``C`` pairs of an event, or Int64[C, B].
            dst: Int64[C, B].
            bound: Int64[B] or one number for all, the first event that is not seen.
        """
        (pairs, size), sources = dst.shape, src.view(-1, dst.size(1))
        if isinstance(bound, Tensor):
            bound = bound.repeat(sources.size(0) + pairs)
        sample = self._sampler.sample(torch.cat([sources.reshape(-1), dst.reshape(-1)]), bound)
        lists = _Lists.of(sample)
        rows = sample.seed.view(-1, size).t()
        u, v = rows[:, : sources.size(0)].expand(-1, pairs), rows[:, sources.size(0) :]
        cells = lists.first.size(1) * pairs * sources.size(0)
        step = max(math.isqrt(_MOST_CELLS // cells), 1)
        found = [
            lists.common(u[begin : begin + step].reshape(-1), v[begin : begin + step].reshape(-1), begin * pairs)
            for begin in range(0, size, step)
        ]
        key, position = map(torch.cat, zip(*found, strict=True)) if found else (src[:0], src[:0])
        key, order = key.sort(stable=True)
        pair, group = key.div(ORDERS, rounding_mode="floor").unique_consecutive(return_inverse=True)
        node = sample.n_id.index_select(0, position.index_select(0, order))
        return CommonNeighbors(pair, group * ORDERS + key.remainder(ORDERS), node)


@dataclass(frozen=True)
class _Lists:
    """The neighbours of rows, as positions among ``U`` nodes; an empty place has the position ``U``.

    Attributes:
        own: Int64[R], the rows' own nodes.
        first: Int64[R, k], their neighbours.
        second: Int64[R, k * k], the neighbours of these.
        none: ``U``.
    """

    own: Tensor
    first: Tensor
    second: Tensor
    none: int

    @classmethod
    def of(cls, sample: NeighborSample) -> _Lists:
        """Returns the lists of the rows of a sample of two hops."""
        near, far = sample.hops
        none = sample.n_id.numel()
        node = torch.cat([far.target, far.target.new_full((1,), none)])
        own = far.target.index_select(0, near.target)
        # The next hop's row of each neighbour; an empty place has a row of its own, whose node and list are empty.
        row = torch.where(near.mask, near.neighbor, far.target.numel())
        far_list = torch.where(far.mask, far.neighbor, none)
        far_list = torch.cat([far_list, far_list.new_full((1, far_list.size(1)), none)])
        second = far_list[row].flatten(1)
        return cls(own, node[row], second.masked_fill(second == own.unsqueeze(1), none), none)

    def common(self, u: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Returns the common neighbours of pairs, ``3 * pair + order`` and position: Int64[M] each.

        Args:
            u: Int64[P], rows.
            v: Int64[P], rows.
            number: The number of the first pair.
        """
        keys, nodes = [], []
        for order, mine, hit in (
            (0, u, self.first[u] == self.own[v].unsqueeze(1)),
            (0, v, self.first[v] == self.own[u].unsqueeze(1)),
            (1, u, self._among(u, self.first, v)),
            (2, u, self._among(u, self.second, v)),
            (2, v, self._among(v, self.second, u)),
        ):
            pair, place = hit.nonzero(as_tuple=True)
            keys.append((pair + number) * ORDERS + order)
            nodes.append(self.first[mine[pair], place])
        return torch.cat(keys), torch.cat(nodes)

    def _among(self, mine: Tensor, lists: Tensor, other: Tensor) -> Tensor:
        """Returns whether each neighbour of a row is in a list of another row: Bool[P, k].

        Args:
            mine: Int64[P], the rows with the neighbours.
            lists: Int64[R, n], for each row.
            other: Int64[P], the rows with the lists.
        """
        mine, at = mine.unique(return_inverse=True)
        other, at_other = other.unique(return_inverse=True)
        wanted = self.first[mine]
        # A table of the lists against the neighbours alone, in which column 0 stands for all nodes that are none.
        column = torch.zeros(self.none + 1, dtype=torch.long, device=mine.device)
        column[wanted.view(-1)] = 1
        column[self.none] = 0
        column *= column.cumsum(0)
        table = torch.zeros(other.numel(), int(column.max()) + 1, dtype=torch.bool, device=mine.device)
        table.scatter_(1, column[lists[other]], True)
        table[:, 0] = False
        cell = at_other.unsqueeze(1) * table.size(1) + column[wanted][at]
        return table.view(-1).index_select(0, cell.view(-1)).view_as(cell)
