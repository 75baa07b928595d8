"""Stateless temporal neighbour sampling: a pure function of node, event bound and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import get_args

import torch
from torch import Tensor

from pyg_mspipe._choices import Strategy
from pyg_mspipe.graph.hashing import uniform_hash
from pyg_mspipe.graph.recent_edges import recent_edges
from pyg_mspipe.graph.row_sums import RowSums, row_sums
from pyg_mspipe.graph.temporal_csr import TemporalCSR
from pyg_mspipe.graph.unique import unique_ids


@dataclass(frozen=True)
class Hop:
    """The sampled edges that lead into ``R`` target rows, at most ``k`` for each, as one padded grid.

    A row is a node seen at one event bound. The rows' neighbours, and the rows themselves, are *source* rows: rows of
    the next hop, or for the last hop positions in ``NeighborSample.n_id``.

    Attributes:
        target: Int64[R], the source row that is the target row itself.
        neighbor: Int64[R, k], the source row at the other end of each edge, most recent first.
        e_id: Int64[R, k], the event of each edge.
        mask: Bool[R, k], true where there is an edge; elsewhere ``neighbor`` repeats ``target`` and ``e_id`` is 0.
        bound: Int64[R], the first event that a row does not see, or Int64[1] for all.
        target_sums: Of the gather of ``target``; none where they were not asked for.
        neighbor_sums: Of the gather of ``neighbor``, likewise.
    """

    target: Tensor
    neighbor: Tensor
    e_id: Tensor
    mask: Tensor
    bound: Tensor
    target_sums: RowSums | None = None
    neighbor_sums: RowSums | None = None

    @property
    def edge_index(self) -> Tensor:
        """Int64[2, M]: source row and target row of every edge, sorted by target; ``edge_id`` aligns with it."""
        target = torch.arange(self.target.numel(), device=self.target.device)
        return torch.stack([self.neighbor[self.mask], target.unsqueeze(1).expand_as(self.mask)[self.mask]])

    @property
    def edge_id(self) -> Tensor:
        """Int64[M]: the event of every edge of ``edge_index``."""
        return self.e_id[self.mask]


@dataclass(frozen=True)
class NeighborSample:
    """What a batch of queries reads.

    Attributes:
        n_id: Int64[U], unique, sorted: the nodes whose memory is read.
        hops: One grid per hop, the queries' own first.
        seed: Int64[Q], the row of ``hops[0]`` that answers each query.
        seed_sums: Of the gather of ``seed``; none where they were not asked for.
    """

    n_id: Tensor
    hops: tuple[Hop, ...]
    seed: Tensor
    seed_sums: RowSums | None = None

    @property
    def seed_node(self) -> Tensor:
        """Int64[Q]: the position in ``n_id`` of the node that each query asks for."""
        row = self.seed
        for hop in self.hops:
            row = hop.target.index_select(0, row)
        return row

    def with_sums(self) -> NeighborSample:
        """Returns the sample with the sums of its gathers, by which gradients add up in one order on every device."""
        sizes = [*(hop.target.numel() for hop in self.hops), self.n_id.numel()]
        hops = tuple(
            replace(hop, target_sums=row_sums(hop.target, size), neighbor_sums=row_sums(hop.neighbor, size))
            for hop, size in zip(self.hops, sizes[1:], strict=True)
        )
        return NeighborSample(self.n_id, hops, self.seed, row_sums(self.seed, sizes[0]))

    def including(self, node: Tensor) -> NeighborSample:
        """Returns the sample with more nodes to read.

        Args:
            node: Int64[M], in any order and as often as wanted.
        """
        n_id = torch.cat([self.n_id, node]).unique()
        moved = torch.searchsorted(n_id, self.n_id)
        if not self.hops:
            return NeighborSample(n_id, (), moved.index_select(0, self.seed))
        last = self.hops[-1]
        last = replace(last, target=moved[last.target], neighbor=moved[last.neighbor])
        return NeighborSample(n_id, (*self.hops[:-1], last), self.seed)


class NeighborSampler:
    """Samples earlier events of nodes, over one or more hops, without any state.

    What it returns depends on its arguments alone, so any batch may be sampled at any time, in any order, from any
    thread, alike on CPU and CUDA. Neighbours of a query's neighbours are bounded by that query's bound, as in TGN
    (Rossi et al. 2020, section 3.1), where the whole computation happens at the query's time.

    Args:
        csr: The stream's history.
        num_neighbors: How many neighbours to take in each hop, e.g. ``[10]`` or ``[10, 10]``; ``[]`` samples none.
        strategy: ``"recent"`` takes the last ones; ``"uniform"`` draws without replacement from all earlier ones.
        seed: Decides the uniform draws.

    Raises:
        TypeError: If ``csr`` is not a ``TemporalCSR``, or ``num_neighbors`` not a list of whole numbers.
        ValueError: If ``num_neighbors`` holds a number below 1, or the strategy is unknown.

    Example:
        >>> import torch
        >>> from torch_geometric.data import TemporalData
        >>> from pyg_mspipe import NeighborSampler, TemporalCSR
        >>> data = TemporalData(
        ...     src=torch.tensor([0, 0, 1]), dst=torch.tensor([2, 3, 2]), t=torch.tensor([10, 20, 30])
        ... )
        >>> sampler = NeighborSampler(TemporalCSR.from_stream(data), num_neighbors=[1])
        >>> n_id, edge_index, e_id = sampler(torch.tensor([0, 2]), bound=2)  # event 2 is not seen
        >>> n_id
        tensor([0, 2, 3])
        >>> n_id[edge_index]  # neighbour, node
        tensor([[3, 0],
                [0, 2]])
        >>> e_id
        tensor([1, 0])
    """

    def __init__(
        self, csr: TemporalCSR, num_neighbors: Sequence[int], strategy: Strategy = "recent", seed: int = 0
    ) -> None:
        if not isinstance(csr, TemporalCSR):
            raise TypeError(f"csr is a {type(csr).__name__}; give a history, TemporalCSR.from_stream(data)")
        given: object = num_neighbors
        if not isinstance(given, Sequence) or not all(isinstance(k, Integral) for k in given):
            raise TypeError(f"num_neighbors={num_neighbors!r}: give a list, one number for each hop, e.g. [10]")
        if min(num_neighbors, default=1) < 1:
            raise ValueError(
                f"num_neighbors={list(num_neighbors)}: give a number of at least 1 for each hop, e.g. [10]"
            )
        if strategy not in get_args(Strategy):
            raise ValueError(f"strategy={strategy!r} is unknown; choose one of {', '.join(get_args(Strategy))}")
        self.csr = csr
        self.num_neighbors = tuple(num_neighbors)
        self.strategy = strategy
        self.seed = seed

    def __call__(self, n_id: Tensor, bound: Tensor | int, *, epoch: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ``(n_id, edge_index, e_id)`` as PyG's ``LastNeighborLoader`` does, from events below ``bound``.

        * ``n_id``: Int64[U], unique, sorted: the given nodes and all that was reached.
        * ``edge_index``: Int64[2, M], positions in ``n_id``: neighbour, node; sorted by node.
        * ``e_id``: Int64[M], the event that joins the two.

        With several hops, the edges of all hops are returned together, and the edges into a node only once.

        Args:
            n_id: Int64[Q], the nodes to start from.
            bound: The first event that must not be seen, a number or a tensor of one: the batch's first event id, not
                its time; ``E`` means all. Give the whole stream ``data.event_id = torch.arange(data.num_events)``,
                before it is split: then each batch says where it begins, ``batch.event_id[0]``, and no loop can lose
                count. ``TemporalCSR.first_event_at`` has the bounds of times.
            epoch: Gives the uniform strategy fresh draws.

        Raises:
            ValueError: If the bound is past ``E``, or there are several.
        """
        within = self._within(bound)
        if isinstance(within, Tensor) and within.numel() != 1:
            raise ValueError(
                f"{within.numel()} bounds; give one, the batch's first event, e.g. batch.event_id[0]; "
                "sample() takes one for each query"
            )
        if self.strategy == "recent" and len(self.num_neighbors) == 1 and n_id.device.type == "cpu":
            return recent_edges(self.csr, n_id, int(within), self.num_neighbors[0])
        target = frontier = n_id.unique()
        none = n_id[:0]
        found = [(none, none, none)]
        for k in self.num_neighbors:
            if len(found) > 1:
                reached = found[-1][1].unique()
                frontier = reached[~torch.isin(reached, target)]
                target = torch.cat([target, frontier])
            neighbor, e_id, mask = self._grid(frontier, within, k, epoch)
            row = mask.nonzero()[:, 0] + (target.numel() - frontier.numel())
            found.append((row, neighbor[mask], e_id[mask]))
        row, neighbor, e_id = map(torch.cat, zip(*found, strict=True))
        reached, position = torch.cat([target, neighbor]).unique(return_inverse=True)
        edge_index = torch.stack([position[target.numel() :], position[row]])
        order = edge_index[1].argsort(stable=True)
        return reached, edge_index[:, order], e_id[order]

    def sample(self, node: Tensor, bound: Tensor | int, *, epoch: int = 0) -> NeighborSample:
        """Returns the neighbourhoods of queries ``(node, bound)``, equal queries computed once.

        Args:
            node: Int64[Q].
            bound: Int64[Q], or one number for all, ``<= E``: only events with a smaller id are seen. See
                ``TemporalCSR.first_event_at`` for the bounds of times.
            epoch: Gives the uniform strategy fresh draws.

        Raises:
            ValueError: If a bound is past ``E``. Bounds on CUDA are not checked, since a check would wait for the
                device.
        """
        within = self._within(bound)
        if not self.num_neighbors:
            n_id, seed = unique_ids(node, self.csr.num_nodes)
            return NeighborSample(n_id, (), seed)
        # A row is the pair (node, bound) as one number, or the node alone where all queries have one bound.
        span = self.csr.num_events + 1
        if isinstance(within, Tensor):
            row, seed = (node * span + within).unique(return_inverse=True)
        else:
            row, seed = unique_ids(node, self.csr.num_nodes)
        hops = []
        for depth, k in enumerate(self.num_neighbors, start=1):
            row_node, row_bound = row, within
            if isinstance(within, Tensor):
                row_node = row.div(span, rounding_mode="floor")
                row_bound = row - row_node * span
            neighbor, e_id, mask = self._grid(row_node, row_bound, k, epoch)
            # An absent neighbour repeats its target, so that it adds no node to read.
            neighbor = torch.where(mask, neighbor, row_node.unsqueeze(1))
            if isinstance(row_bound, Tensor) and depth < len(self.num_neighbors):
                target, source = row, neighbor * span + row_bound.unsqueeze(1)
            else:
                target, source = row_node, neighbor
            row, position = torch.cat([target, source.view(-1)]).unique(return_inverse=True)
            neighbor = position[target.numel() :].view_as(mask)
            seen = row_bound if isinstance(row_bound, Tensor) else node.new_full((1,), row_bound)
            hops.append(Hop(position[: target.numel()], neighbor, e_id, mask, seen))
        return NeighborSample(n_id=row, hops=tuple(hops), seed=seed)

    def _within(self, bound: Tensor | int) -> Tensor | int:
        """Returns the bound, clamped to ``0..E``: past ``E``, a search would end in another node's history."""
        last = self.csr.num_events
        if isinstance(bound, Tensor):
            largest = int(bound.max()) if bound.numel() and bound.device.type == "cpu" else 0
        else:
            largest = bound
        if largest > last:
            raise ValueError(
                f"bound {largest} is past the {last} events of the history; "
                f"give an event id from 0 to {last}, not a time: csr.first_event_at(t) turns one into the other"
            )
        return bound.clamp(0, last) if isinstance(bound, Tensor) else max(bound, 0)

    def _grid(self, node: Tensor, bound: Tensor | int, k: int, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns neighbour, event id and validity: [Q, k] each, most recent first; event id 0 where invalid."""
        if self.csr.num_events == 0:
            empty = torch.zeros(node.numel(), k, dtype=torch.long, device=node.device)
            return empty, empty, empty.bool()
        begin, end = self.csr.history(node, bound)
        slot = torch.arange(k, device=node.device)
        if self.strategy == "recent":
            entry = (end - 1).unsqueeze(1) - slot
            mask = entry >= begin.unsqueeze(1)
        else:
            degree = end - begin
            entry = begin.unsqueeze(1) + self._subset(node, end, degree, k, epoch)
            mask = slot < degree.unsqueeze(1)
        # index_select of a flat index takes half the time of an index of two dimensions.
        entry = entry.clamp_(min=0).view(-1)
        e_id = self.csr.key.index_select(0, entry).remainder_(self.csr.num_events).view_as(mask)
        return self.csr.neighbor.index_select(0, entry).view_as(mask), e_id.mul_(mask), mask

    def _subset(self, node: Tensor, end: Tensor, degree: Tensor, k: int, epoch: int) -> Tensor:
        """Returns Int64[Q, k]: a uniform k-subset of ``range(degree)``, descending, valid ones first.

        Floyd's algorithm (Bentley and Floyd 1987), one vectorised step for each of the ``k`` places. ``end`` stands for
        the bound: bounds between the same two entries have the same history, and so the same draw.
        """
        draws = uniform_hash(self.seed, epoch, node, end, k)
        chosen = node.new_full((node.numel(), k), -1)
        for i in range(k):
            largest = degree - k + i
            draw = (draws[:, i] * (largest + 1)).long()
            taken = (chosen[:, :i] == draw.unsqueeze(1)).any(dim=1)
            pick = torch.where(taken, largest, draw)
            # A history no longer than k is taken whole.
            chosen[:, i] = torch.where(degree <= k, torch.where(degree > i, i, -1), pick)
        return chosen.sort(dim=1, descending=True).values
