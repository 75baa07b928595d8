"""Negatives: destinations, or whole pairs, that events are told from or ranked among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from pyg_mspipe.data.tensor_tree import map_tensors

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


@dataclass(frozen=True)
class Positives:
    """``B`` consecutive events that negatives are wanted for.

    Attributes:
        events: The event ids.
        src: Int64[B].
        dst: Int64[B].
        t: Int64[B], in the stream's unit.
        epoch: Which pass over the stream this is, from 0; evaluation is always pass 0.
        batch: The number of the batch that the events are, from 0.
    """

    events: range
    src: Tensor
    dst: Tensor
    t: Tensor
    epoch: int = 0
    batch: int = 0

    @classmethod
    def of(cls, data: TemporalData, events: range, *, epoch: int = 0, batch: int = 0) -> Positives:
        """Returns some events of a stream.

        Args:
            data: The stream.
            events: The event ids.
            epoch: See the class.
            batch: See the class.
        """
        part = slice(events.start, events.stop)
        return cls(events, data.src[part], data.dst[part], data.t[part], epoch, batch)

    def __len__(self) -> int:
        """Returns the number of events."""
        return len(self.events)


@dataclass(frozen=True)
class Negatives:
    """Up to ``K`` negatives for each of ``B`` events.

    Attributes:
        dst: Int64[K, B]; -1 where an event has fewer than ``K``, after those that it has.
        src: Int64[K, B], where negatives have sources of their own; by default each has its event's.
        padded: Whether some event has fewer than ``K``.
    """

    dst: Tensor
    src: Tensor | None = None
    padded: bool = False

    def part(self, own: slice) -> Negatives:
        """Returns the negatives of some of the events.

        Args:
            own: Which of the ``B``.
        """
        return Negatives(self.dst[:, own], None if self.src is None else self.src[:, own], self.padded)

    def to(self, device: torch.device) -> Negatives:
        """Returns the same on ``device``."""
        return map_tensors(self, lambda x: x.to(device))


Drawn = Negatives | Tensor | Sequence[Sequence[int]]


class DrawNegatives(Protocol):
    """Gives the negatives of events: a pure function of them, so that any batch can be had at any time, by any thread.

    What it gives is one of

    * Int64[K, B]: ``K`` destinations for each event, row after row;
    * a list or an array of destinations for each event, of any length, as TGB's ``query_batch`` gives them;
    * :class:`Negatives`, which may have sources of their own.
    """

    def __call__(self, positives: Positives, /) -> Drawn:
        """Returns the negatives.

        Args:
            positives: The events.
        """
        ...


def negatives_for(draw: DrawNegatives, positives: Positives, num_nodes: int) -> Negatives:
    """Returns the negatives that a function of somebody's gives for events, checked.

    Args:
        draw: The function.
        positives: The events.
        num_nodes: Number of nodes.

    Raises:
        ValueError: If there are not as many as events, or something is no node.
    """
    found = draw(positives)
    if isinstance(found, Tensor):
        found = Negatives(found)
    elif not isinstance(found, Negatives):
        found = padded(found)
    for name, ids in (("", found.dst), (" sources", found.src)):
        if ids is None:
            continue
        if ids.dim() != 2 or ids.size(1) != len(positives) or ids.dtype != torch.long:
            raise ValueError(
                f"negatives{name} of batch {positives.batch}: {ids.dtype} of shape {list(ids.shape)} for "
                f"{len(positives)} events; give int64 of shape [K, {len(positives)}], or a list for each event"
            )
        # On CUDA the check would wait for the device.
        if ids.device.type == "cpu" and ids.numel():
            low, high = (int(x) for x in ids.aminmax())
            if high >= num_nodes or low < (-1 if found.padded else 0):
                raise ValueError(
                    f"negatives{name} of batch {positives.batch}: node {high if high >= num_nodes else low} is none of "
                    f"the stream's {num_nodes}; number them as the stream does"
                )
    return found


def padded(lists: Sequence[Sequence[int]]) -> Negatives:
    """Returns negatives from a list for each event.

    Args:
        lists: Destinations, of each event.

    Raises:
        ValueError: If one is below 0.
    """
    rows = [torch.as_tensor(np.asarray(each, dtype=np.int64)) for each in lists]
    for event, row in enumerate(rows):
        if row.numel() and int(row.min()) < 0:
            raise ValueError(
                f"negatives of event {event} of the batch: node {int(row.min())}; nodes are numbered from 0"
            )
    counts = {row.numel() for row in rows}
    if len(counts) <= 1:
        return Negatives(torch.stack(rows, dim=1) if rows else torch.empty(0, 0, dtype=torch.long))
    return Negatives(torch.nn.utils.rnn.pad_sequence(rows, padding_value=-1), padded=True)


@dataclass(frozen=True)
class NegativeSampler:
    """Draws node ids uniformly from `[low, high]`, both ends included, with replacement.

    A draw is a function of `(seed, epoch, batch)`: the sampler holds no state, so that batches may be drawn in any
    order, by any thread, and again when a run resumes. A negative may be the event's own destination, as in PyG.

    Attributes:
        low: The smallest id to draw.
        high: The largest id to draw.
        num: Negatives for each event.
        seed: One or several non-negative integers.
    """

    low: int
    high: int
    _: KW_ONLY
    num: int = 1
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"no ids to draw between low {self.low} and high {self.high}; give 0 <= low <= high")
        if self.num < 1:
            raise ValueError(f"num={self.num} negatives for each event; give at least 1")
        if min(self.seed if isinstance(self.seed, tuple) else (self.seed,), default=-1) < 0:
            raise ValueError(f"seed {self.seed} is empty or negative; give integers from 0")

    @classmethod
    def from_destinations(cls, dst: Tensor, *, num: int = 1, seed: int | tuple[int, ...] = 0) -> NegativeSampler:
        """Returns a sampler over the range of the destinations, as PyG's `TemporalDataLoader` draws them.

        Args:
            dst: `dst: Int64[E]`, with `E >= 1`.
            num: See the class.
            seed: See the class.
        """
        return cls(int(dst.min()), int(dst.max()), num=num, seed=seed)

    @classmethod
    def from_nodes(cls, num_nodes: int, *, num: int = 1, seed: int | tuple[int, ...] = 0) -> NegativeSampler:
        """Returns a sampler over all nodes.

        Args:
            num_nodes: Number of nodes; their ids are `0..num_nodes - 1`.
            num: See the class.
            seed: See the class.
        """
        return cls(0, num_nodes - 1, num=num, seed=seed)

    def __call__(self, positives: Positives, /) -> Tensor:
        """Returns the negatives of events, Int64[num, B], on the CPU.

        Args:
            positives: The events.
        """
        drawn = self.draw(self.num * len(positives), epoch=positives.epoch, batch=positives.batch)
        return drawn.view(self.num, -1)

    def draw(self, size: int, *, epoch: int, batch: int) -> Tensor:
        """Returns `neg_dst: Int64[size]` on the CPU, for loops of one's own.

        Args:
            size: How many nodes to draw.
            epoch: The epoch's number, from 0.
            batch: The batch's number within the epoch, from 0.
        """
        generator = torch.Generator().manual_seed(generator_seed(self.seed, epoch, batch))
        return torch.randint(self.low, self.high + 1, (size,), generator=generator)


def generator_seed(seed: int | tuple[int, ...], *key: int) -> int:
    """Returns a seed for a generator: another one for each seed and key.

    Args:
        seed: One or several non-negative integers.
        *key: What the draw is for, such as epoch and batch.
    """
    # spawn_key keeps the key apart from the words of the seed, so that no two share a state
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
