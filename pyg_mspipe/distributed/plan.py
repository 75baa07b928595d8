"""Which trainer does what: mini-batch, epoch and memory parallelism (DistTGL, SC 2023, arXiv 2307.07649)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


class PlanError(ValueError):
    """A plan cannot be trained; the text says why, and how to mend it."""


@dataclass(frozen=True)
class Seat:
    """One trainer's place in a plan.

    Attributes:
        rank: The rank of the trainer's process, in ``0..world - 1``.
        group: The memory group that the trainer belongs to: those that train on one memory state.
        slot: Which of the ``j`` slots of the group the trainer is in; slots take turns at new batches.
        part: Which of the ``i`` parts of a batch the trainer takes.
    """

    rank: int
    group: int
    slot: int
    part: int


@dataclass(frozen=True)
class ParallelPlan:
    """``i x j x k`` trainers, one process each.

    The trainers of a memory group have consecutive ranks, and so live on one host where hosts take whole groups.

    Attributes:
        minibatch: ``i``, the number of trainers that a batch is split over; they read one version and commit together.
        epoch: ``j``, the number of slots that share a memory state; each trains a batch for ``j`` steps, with other
            negatives in each step, and commits it once.
        memory: ``k``, the number of independent memory states, each at another time of the stream.

    Raises:
        PlanError: If a number is below 1.

    Example:
        >>> from pyg_mspipe import ParallelPlan
        >>> plan = ParallelPlan.parse("1x2x2")
        >>> plan.world, plan.epochs_per_sweep
        (4, 4)
        >>> plan.seat(3)
        Seat(rank=3, group=1, slot=1, part=0)
    """

    minibatch: int = 1
    epoch: int = 1
    memory: int = 1

    def __post_init__(self) -> None:
        for letter, number in zip("ijk", (self.minibatch, self.epoch, self.memory), strict=True):
            if type(number) is not int or number < 1:
                raise PlanError(f"{letter} is {number!r} in a plan i x j x k; give whole numbers from 1, as in 1x2x2")

    @classmethod
    def parse(cls, text: str) -> ParallelPlan:
        """Returns the plan that ``text`` writes as ``"1x2x2"``.

        Raises:
            PlanError: If it is not three whole numbers from 1.
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*", text, re.ASCII)
        if match is None:
            raise PlanError(f"plan {text!r} is not of the form i x j x k; give three whole numbers, as in 1x2x2")
        return cls(*(int(number) for number in match.groups()))

    def __str__(self) -> str:
        """Returns ``"ixjxk"``."""
        return f"{self.minibatch}x{self.epoch}x{self.memory}"

    @property
    def world(self) -> int:
        """How many trainers there are."""
        return self.group_size * self.memory

    @property
    def group_size(self) -> int:
        """How many trainers share a memory state."""
        return self.minibatch * self.epoch

    @property
    def epochs_per_sweep(self) -> int:
        """How often each event is trained while every group goes through the stream once."""
        return self.epoch * self.memory

    def seat(self, rank: int) -> Seat:
        """Returns the place of the trainer with a rank.

        Args:
            rank: The trainer's rank, in ``0..world - 1``.

        Raises:
            PlanError: If there is no such rank.
        """
        if not 0 <= rank < self.world:
            raise PlanError(f"rank {rank} is not in plan {self}, which has ranks 0 to {self.world - 1}")
        group, within = divmod(rank, self.group_size)
        slot, part = divmod(within, self.minibatch)
        return Seat(rank, group, slot, part)

    def seats(self) -> list[Seat]:
        """Returns all places, by rank."""
        return [self.seat(rank) for rank in range(self.world)]

    def ranks(self, group: int) -> range:
        """Returns the ranks of memory group ``group``."""
        return range(group * self.group_size, (group + 1) * self.group_size)

    def sweeps(self, epochs: int) -> int:
        """Returns how many sweeps train each event at least ``epochs`` times."""
        return -(-epochs // self.epochs_per_sweep)

    def hosts(self, trainers: Sequence[int]) -> list[int]:
        """Returns the host of each memory group.

        Args:
            trainers: How many trainers run on each host; hosts are in the order of the ranks.

        Raises:
            PlanError: If the plan has more or fewer trainers, or a memory group would be on two hosts: node memory is
                shared within a host and never crosses the network.
        """
        if sum(trainers) != self.world:
            raise PlanError(
                f"plan {self} has {self.world} trainers and {sum(trainers)} processes were started; start as many, "
                f"or choose i, j, k with a product of {sum(trainers)}"
            )
        host_of = [host for host, count in enumerate(trainers) for _ in range(count)]
        for group in range(self.memory):
            ranks = self.ranks(group)
            if host_of[ranks[0]] != host_of[ranks[-1]]:
                raise PlanError(
                    f"memory group {group} of plan {self} has ranks {ranks[0]} to {ranks[-1]} on hosts "
                    f"{host_of[ranks[0]]} and {host_of[ranks[-1]]}; a group must fit in one host, so give each host a "
                    f"multiple of {self.group_size} processes, or take a larger k"
                )
        return [host_of[self.ranks(group)[0]] for group in range(self.memory)]


def shapes(world: int) -> Iterator[ParallelPlan]:
    """Yields all plans of ``world`` trainers, in the order of ``i`` and then ``j``."""
    for minibatch in divisors(world):
        for epoch in divisors(world // minibatch):
            yield ParallelPlan(minibatch, epoch, world // minibatch // epoch)


def spread(world: int, hosts: int) -> list[int]:
    """Returns how many of ``world`` trainers run on each host.

    Raises:
        PlanError: If the trainers cannot be spread evenly, or there is not one for each host.
    """
    if world < 1 or hosts < 1 or world % hosts:
        raise PlanError(f"{world} trainers on {hosts} hosts; give each host the same number of them, at least 1")
    return [world // hosts] * hosts


def divisors(number: int) -> list[int]:
    """Returns all whole numbers that divide ``number``, in ascending order."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
