"""Which plan suits a stream: ``i`` by its dependencies, ``k`` by the hosts' memory, ``j`` for the trainers left."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.distributed.plan import ParallelPlan, PlanError, divisors, spread

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

_SMALLEST, _LARGEST = 50, 12_800


@dataclass(frozen=True)
class BatchLoss:
    """What a size of the global batch costs.

    Attributes:
        batch_size: Events in the batches of all ``i`` trainers together.
        missed: Share of the events that miss a dependency: one of their nodes had its previous event, in either role,
            in the same batch, where memory does not see it.
        loss: The drop in events that miss no dependency, as a share of those at the batch size of one trainer.
    """

    batch_size: int
    missed: float
    loss: float


@dataclass(frozen=True)
class PlanChoice:
    """A plan and why it was chosen.

    Attributes:
        plan: The choice.
        measured: What batch sizes cost on the stream, in ascending order.
        largest_batch: The largest measured batch size up to which no loss is too high.
        group_bytes: The size of one memory group in host memory, in bytes.
        reasons: A sentence each for the batch size, ``i``, ``k`` and ``j``.
    """

    plan: ParallelPlan
    measured: tuple[BatchLoss, ...]
    largest_batch: int
    group_bytes: int
    reasons: tuple[str, ...]


def last_dependency(src: Tensor, dst: Tensor) -> Tensor:
    """Returns, for each event, the latest earlier event of either of its nodes, -1 if there is none: Int64[E].

    Args:
        src: Int64[E], sources in the order of events.
        dst: Int64[E], destinations in the same order.
    """
    event = torch.arange(src.numel())
    # A self-loop is counted once for its node; counted twice, it would depend on itself.
    stands = torch.stack([torch.ones_like(src, dtype=torch.bool), src != dst], dim=1).view(-1)
    node, order = torch.stack([src, dst], dim=1).view(-1)[stands], event.repeat_interleave(2)[stands]
    node, by_node = node.sort(stable=True)
    order = order[by_node]
    same = node[1:] == node[:-1]
    return torch.full_like(event, -1).scatter_reduce(0, order[1:][same], order[:-1][same], "amax")


def missed_share(dependency: Tensor, batch_size: int) -> float:
    """Returns the share of events whose last dependency lies in their own batch.

    Args:
        dependency: Int64[E], as :func:`last_dependency` gives it.
        batch_size: Events in a batch.
    """
    event = torch.arange(dependency.numel())
    return float((dependency >= event - event % batch_size).double().mean())


def choose_plan(
    data: TemporalData,
    events: range,
    *,
    world: int,
    group_bytes: int,
    host_memory: int,
    hosts: int = 1,
    batch_size: int = 200,
    max_loss: float = 0.2,
) -> PlanChoice:
    """Returns the plan for a stream by the rule of DistTGL (SC 2023, arXiv 2307.07649).

    ``i`` is the largest number of trainers whose global batch still captures the dependencies: an event captures them
    if the previous events of both its nodes lie before its batch. Larger batches have fewer such events. Their loss is
    relative to the number of such events at the batch size of one trainer, since on dense streams even small batches
    have few. ``k`` is as large as the hosts' memory allows, since more memory groups neither miss dependencies nor hold
    batches for several steps. ``j`` takes the trainers that are left.

    Args:
        data: The stream, as :func:`~pyg_mspipe.data.check_stream` gives it.
        events: The event ids to train on.
        world: Number of trainers.
        group_bytes: Bytes of one memory state, see :attr:`~pyg_mspipe.memory.RowState.nbytes`.
        host_memory: Bytes that the memory groups of a host may take.
        hosts: Number of hosts, each with as many trainers.
        batch_size: Events that one trainer takes at a time; the loss is relative to this size.
        max_loss: The largest loss of a batch, see :class:`BatchLoss`.

    Raises:
        PlanError: If the trainers cannot be spread over the hosts, a number is out of range, there are fewer batches
            than hosts, or a host cannot hold a single memory group.
    """
    here = spread(world, hosts)[0]
    if not 1 <= batch_size < 2**31:
        raise PlanError(f"the batch size is {batch_size}; give a number from 1 to 2**31 - 1")
    if not 0 <= max_loss < 1:
        raise PlanError(f"the largest loss is {max_loss}; give a share from 0 to below 1")
    src, dst = data.src[events.start : events.stop], data.dst[events.start : events.stop]
    measured, largest, why_batch = _largest_batch(last_dependency(src, dst), here, batch_size, max_loss)

    minibatch = max(i for i in divisors(here) if i == 1 or i * batch_size <= largest)
    total = minibatch * batch_size
    num_batches = -(-len(events) // total)
    if num_batches < hosts:
        raise PlanError(
            f"{len(events)} training events are {num_batches} batches of {total}, and each of {hosts} hosts begins at "
            f"another; take a smaller batch size or fewer hosts"
        )

    if group_bytes > host_memory:
        raise PlanError(
            f"a memory group takes {_in_units(group_bytes)} and a host has {_in_units(host_memory)} for them; take "
            f"narrower memory, or hosts that have more"
        )
    most = min(host_memory // group_bytes, num_batches // hosts)
    groups = max(g for g in divisors(here // minibatch) if g <= most)
    plan = ParallelPlan(minibatch, here // minibatch // groups, groups * hosts)
    reasons = (
        why_batch,
        _why_minibatch(minibatch, here, batch_size),
        _why_memory(plan, hosts, group_bytes, host_memory, num_batches, f"{data.num_nodes:,} nodes"),
        _why_epoch(plan),
    )
    return PlanChoice(plan, measured, largest, group_bytes, reasons)


def _largest_batch(
    dependency: Tensor, here: int, batch_size: int, max_loss: float
) -> tuple[tuple[BatchLoss, ...], int, str]:
    """Returns what batch sizes cost, the largest one up to which no loss is too high, and why."""
    num_events = dependency.numel()
    powers = itertools.takewhile(lambda size: size <= _LARGEST, (_SMALLEST << n for n in itertools.count()))
    sizes = {size for size in (*powers, *(i * batch_size for i in divisors(here))) if size <= num_events}
    base = missed_share(dependency, batch_size)
    measured = []
    for size in sorted(sizes | {batch_size}):
        missed = missed_share(dependency, size)
        measured.append(BatchLoss(size, missed, (missed - base) / (1 - base) if base < 1 else 0.0))
    larger = [each for each in measured if each.batch_size >= batch_size]
    allowed = list(itertools.takewhile(lambda each: each.loss <= max_loss, larger))
    best = allowed[-1]
    why = f"at {batch_size:,}, the batch of one trainer, {1 - base:.1%} of the events miss no dependency"
    if len(allowed) < len(larger):
        first = larger[len(allowed)]
        why += f"; at {first.batch_size:,}, {first.loss:.1%} of those do, more than {max_loss:.1%}"
    elif len(larger) > 1:
        why += f"; at {best.batch_size:,}, the largest size that was measured, {best.loss:.1%} of those do"
    return tuple(measured), best.batch_size, f"batch of at most {best.batch_size:,}: {why}"


def _why_minibatch(minibatch: int, here: int, batch_size: int) -> str:
    together = f"i = {minibatch}: {minibatch} x {batch_size:,} events make a batch of {minibatch * batch_size:,}"
    if minibatch == here:
        return f"{together}, with all trainers of a host"
    more = min(i for i in divisors(here) if i > minibatch)
    return f"{together}; {more}, the next divisor of the {here} on a host, would make one of {more * batch_size:,}"


def _why_memory(plan: ParallelPlan, hosts: int, size: int, host_memory: int, num_batches: int, holds: str) -> str:
    here = plan.memory // hosts
    takes = f"k = {plan.memory}: a memory group takes {_in_units(size)} ({holds})"
    if plan.epoch == 1:
        return f"{takes}, and a host has {_in_units(host_memory)} for its {here:,}, the most that its trainers make"
    more = min(g for g in divisors(here * plan.epoch) if g > here)
    if more * size > host_memory:
        return f"{takes}, and {more} of them on a host do not fit into its {_in_units(host_memory)}"
    return (
        f"{takes}; {more} of them on a host would fit, but could not begin at different ones of {num_batches:,} batches"
    )


def _why_epoch(plan: ParallelPlan) -> str:
    if plan.epoch == 1:
        return "j = 1: no trainers are left to take turns within a memory group"
    return f"j = {plan.epoch}: the remaining trainers, which take turns at new batches within a memory group"


def _in_units(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:,.3g} {unit}"
        amount /= 1024
    return f"{amount:,.1f} GiB"
