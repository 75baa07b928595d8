"""Batches padded to a few sizes, for devices that want each shape to come again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from pyg_mspipe.data.tensor_tree import map_tensors
from pyg_mspipe.graph.neighbor_sampler import Hop, NeighborSample
from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.batch_size import BatchSize

_QUANTILES = (0.5, 0.85, 1.0)
# Room for batches that are larger than all that were looked at.
_ROOM = 1.1


class Padding:
    """Pads batches to one of a few sizes. What is added is read by nothing: no result and no gradient knows of it.

    Args:
        sizes: The sizes.
    """

    def __init__(self, sizes: Iterable[BatchSize]) -> None:
        self.sizes = sorted(set(sizes), key=lambda size: size.nodes)

    @classmethod
    def of(cls, batches: Iterable[Batch]) -> Padding:
        """Returns the padding that suits batches like some, to four sizes at most.

        Args:
            batches: Drawn.
        """
        seen = sorted(map(size_of, batches), key=lambda size: size.nodes)
        if not seen:
            return cls(())
        parts = [seen[: max(round(share * len(seen)), 1)] for share in _QUANTILES]
        sizes = [reduce(BatchSize.joined, part).rounded() for part in parts]
        return cls([*sizes, sizes[-1].rounded(_ROOM)])

    def __call__(self, batch: Batch) -> Batch:
        """Returns a drawn batch of one of the sizes, or of its own if it is larger than all or cannot be padded.

        It has the sums of its gathers, see :meth:`NeighborSample.with_sums`.

        Args:
            batch: Drawn.
        """
        own, size = size_of(batch), None
        if batch.pairs is None and batch.asked is None and batch.y is None and not batch.negatives.padded:
            size = next((each for each in self.sizes if each.holds(own)), None)
        if size is None:
            return with_sums(batch)
        return replace(
            batch,
            sample=_padded_sample(batch.sample, size).with_sums(),
            row_t=tuple(_more(t, count, 0) for t, count in zip(batch.row_t, size.targets, strict=True)),
            plan=None if batch.plan is None else padded_plan(batch.plan, size),
            unpadded=own,
            padded=size,
        )


def with_sums(batch: Batch) -> Batch:
    """Returns a drawn batch with the sums of its gathers, see :meth:`NeighborSample.with_sums`."""
    return replace(batch, sample=batch.sample.with_sums())


def size_of(batch: Batch) -> BatchSize:
    """Returns the size of a batch."""
    plan = batch.plan
    mails = 0 if plan is None or plan.deliveries is None else plan.deliveries.n_id.numel()
    targets = tuple(hop.target.numel() for hop in batch.sample.hops)
    return BatchSize(batch.n_id.numel(), targets, 0 if plan is None else plan.committed.numel(), mails)


def padded_plan(plan: MemoryPlan, size: BatchSize) -> MemoryPlan:
    """Returns a plan whose parts are of a size.

    Nodes, commits and mails that are added repeat the last of their kind.

    Args:
        plan: Drawn, no larger.
        size: The size.
    """
    n_id = _more(plan.n_id, size.nodes, None)
    pending = map_tensors(plan.pending, lambda x: _more(x, size.nodes, 0) if x.numel() else x)
    same = {id(plan.n_id): n_id, id(plan.pending.other): pending.other}
    deliveries = plan.deliveries
    if deliveries is not None:
        many = {name: _more(getattr(deliveries, name), size.mails, None) for name in ("n_id", "event", "own", "other")}
        deliveries = replace(deliveries, **many)
    return replace(
        plan,
        n_id=n_id,
        pending=pending,
        reads={name: read._replace(n_id=same.get(id(read.n_id), read.n_id)) for name, read in plan.reads.items()},
        committed=_more(plan.committed, size.committed, None),
        deliveries=deliveries,
    )


def replanned(batch: Batch, plan: MemoryPlan, make: Callable[[Tensor], MemoryPlan | None]) -> MemoryPlan:
    """Returns another plan of a gathered batch, of the same size.

    Args:
        batch: The batch.
        plan: The plan that it has.
        make: Plans for its nodes, Int64[U], beside the stream.
    """
    drawn = plan if plan.drawn is None else plan.drawn.value
    made = make(drawn.n_id if batch.unpadded is None else drawn.n_id[: batch.unpadded.nodes])
    assert made is not None
    # Of what was found ahead, that about the batch's own nodes holds whatever the version.
    met = {stop: {"memory": each["memory"]} for stop, each in drawn.met.items() if "memory" in each}
    made = replace(made, met=met)
    return made if batch.padded is None else padded_plan(made, batch.padded)


def _padded_sample(sample: NeighborSample, size: BatchSize) -> NeighborSample:
    # Where there is no edge, places are spread over the rows, so that no row's gradient is a long sum of zeros.
    rows = [*size.targets, size.nodes][1:]
    hops = tuple(
        Hop(
            target=_spread(hop.target, count, each),
            neighbor=_spread(hop.neighbor, count, each),
            e_id=_more(hop.e_id, count, 0),
            mask=_more(hop.mask, count, 0),
            bound=hop.bound if hop.bound.numel() == 1 else _more(hop.bound, count, 0),
        )
        for hop, count, each in zip(sample.hops, size.targets, rows, strict=True)
    )
    return NeighborSample(_more(sample.n_id, size.nodes, None), hops, sample.seed)


def _spread(x: Tensor, size: int, rows: int) -> Tensor:
    """Returns ``x``: Int64[M, ...] with more rows, [size, ...], of numbers below ``rows``, one after the other."""
    added = torch.arange(x.size(0), size).remainder_(rows)
    return torch.cat([x, added.view(-1, *[1] * (x.dim() - 1)).expand(-1, *x.shape[1:])])


def _more(x: Tensor, size: int, fill: int | None) -> Tensor:
    """Returns ``x``: [M, ...] with more rows, [size, ...], of one value or, without it, like the last."""
    added = size - x.size(0)
    if not added:
        return x
    more = x[-1:].expand(added, *x.shape[1:]) if fill is None else x.new_full((added, *x.shape[1:]), fill)
    return torch.cat([x, more])
