"""Negative destinations, which depend only on the seed, the epoch and the batch."""

from dataclasses import KW_ONLY, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class DrawNegatives(Protocol):
    """Draws negatives: a pure function of its arguments, so that any batch can be drawn at any time."""

    def __call__(self, size: int, *, epoch: int, batch: int) -> Tensor:
        """Returns nodes, Int64[size]: one set after the other, each with one node for each event of a batch.

        Args:
            size: The number of sets times the number of events.
            epoch: Which pass over the stream this is.
            batch: The batch's number.
        """
        ...


@dataclass(frozen=True)
class NegativeSampler:
    """Draws node ids uniformly from `[low, high]`, both ends included.

    A draw is a function of `(seed, epoch, batch)`: the sampler holds no state, so that batches may be drawn in any
    order, by any thread, and again when a run resumes.

    Attributes:
        low: The smallest id to draw.
        high: The largest id to draw.
        seed: One or several non-negative integers.
    """

    low: int
    high: int
    _: KW_ONLY
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"no ids to draw between low {self.low} and high {self.high}; give 0 <= low <= high")
        if min(self.seed if isinstance(self.seed, tuple) else (self.seed,), default=-1) < 0:
            raise ValueError(f"seed {self.seed} is empty or negative; give integers from 0")

    @classmethod
    def from_destinations(cls, dst: Tensor, *, seed: int | tuple[int, ...] = 0) -> "NegativeSampler":
        """Returns a sampler over the range of the destinations, as PyG's `TemporalDataLoader` draws them.

        Args:
            dst: `dst: Int64[E]`, with `E >= 1`.
            seed: See the class.
        """
        return cls(int(dst.min()), int(dst.max()), seed=seed)

    @classmethod
    def from_nodes(cls, num_nodes: int, *, seed: int | tuple[int, ...] = 0) -> "NegativeSampler":
        """Returns a sampler over all nodes.

        Args:
            num_nodes: Number of nodes; their ids are `0..num_nodes - 1`.
            seed: See the class.
        """
        return cls(0, num_nodes - 1, seed=seed)

    def __call__(self, size: int, *, epoch: int, batch: int) -> Tensor:
        """Returns `neg_dst: Int64[size]` on the CPU.

        Args:
            size: How many nodes to draw; a multiple of the batch size for several negatives per event.
            epoch: The epoch's number, from 0.
            batch: The batch's number within the epoch, from 0.
        """
        # spawn_key keeps (epoch, batch) apart from the words of the seed, so that no two triples share a state
        state = np.random.SeedSequence(self.seed, spawn_key=(epoch, batch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        return torch.randint(self.low, self.high + 1, (size,), generator=generator)
