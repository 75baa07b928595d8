"""Negatives for training of which half are destinations that their source has met before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_mspipe.data.negatives import Positives, generator_seed
from pyg_mspipe.graph.hashing import uniform_hash
from pyg_mspipe.graph.pair_history import PairHistory


@dataclass(frozen=True)
class HistoricalSampler:
    """Draws each negative with probability one half from what the event's source met before the batch.

    Such a negative is the destination of one of the source's earlier events, each as likely, but never the event's own
    destination; a source that has met nothing else gets a uniform one. The other half is uniform over `[low, high]`,
    both ends included, and may be the event's own destination. All draws are with replacement.

    A draw is a function of seed, epoch and event and of where the batch begins, so that any batch may be drawn at any
    time, by any thread, and again when a run resumes.

    Attributes:
        low: The smallest id to draw.
        high: The largest id to draw.
        pairs: The histories of pairs.
        begin: Int64[N + 1], where the events of each source begin among those of all.
        source_key: Int64[E], ascending, ``src * E + e_id`` of each event.
        destination: Int64[E], the destinations of these events.
        others: Int64[E], ascending, ``p * E + n`` of each event of ``pairs.key``, in its order, where ``p`` is its pair
            and ``n`` how many events of its source with other destinations are before it.
        num: Negatives for each event.
        seed: One or several non-negative integers.
    """

    low: int
    high: int
    pairs: PairHistory
    begin: Tensor
    source_key: Tensor
    destination: Tensor
    others: Tensor
    num: int = 1
    seed: int | tuple[int, ...] = 0

    @classmethod
    def from_events(
        cls, src: Tensor, dst: Tensor, num_nodes: int, *, num: int = 1, seed: int | tuple[int, ...] = 0
    ) -> HistoricalSampler:
        """Returns a sampler over the events of a stream up to some event. O(E log E) time.

        Args:
            src: Int64[E], in the order of event ids, with ``E >= 1``.
            dst: Int64[E].
            num_nodes: Number of nodes ``N``.
            num: See the class.
            seed: See the class.
        """
        num_events = src.numel()
        e_id = torch.arange(num_events, device=src.device)
        source_key, order = (src * num_events + e_id).sort()
        begin = torch.searchsorted(source_key, torch.arange(num_nodes + 1, device=src.device) * num_events)
        rank = torch.empty_like(e_id).scatter_(0, order, e_id - begin[src[order]])
        pairs = PairHistory.from_events(src, dst, num_nodes)
        pair = pairs.key.div(num_events, rounding_mode="floor")
        met_before = e_id - torch.searchsorted(pairs.key, pair * num_events)
        others = pair * num_events + rank[pairs.key.remainder(num_events)] - met_before
        low, high = (int(x) for x in dst.aminmax())
        return cls(low, high, pairs, begin, source_key, dst[order], others, num=num, seed=seed)

    def __call__(self, positives: Positives, /) -> Tensor:
        """Returns the negatives of events, Int64[num, B].

        Args:
            positives: The events; all before the first of them are earlier ones.
        """
        events = torch.arange(positives.events.start, positives.events.stop, device=self.begin.device)
        seed = generator_seed(self.seed)
        draws = uniform_hash(seed, positives.epoch, events, torch.zeros_like(events), 3 * self.num).t().contiguous()
        coin, which, anywhere = draws.split(self.num)
        uniform = self.low + (anywhere * (self.high - self.low + 1)).long()

        src, dst, bound = positives.src, positives.dst, positives.events.start
        first = self.begin[src]
        known = torch.searchsorted(self.source_key, src * self.source_key.numel() + bound) - first
        own = self.pairs.count(src, dst, bound)
        choice = (which * (known - own)).long()
        # The event with as many others before it as drawn, past the source's events with the own destination.
        place = self._past_own(src, dst, choice) + choice + first
        met = self.destination[place.clamp_(max=self.destination.numel() - 1)]
        return torch.where((coin < 0.5) & (known > own), met, uniform)

    def _past_own(self, src: Tensor, dst: Tensor, choice: Tensor) -> Tensor:
        """Returns how many events of pairs have at most so many of their source's others before them: Int64[num, B]."""
        num_events = self.source_key.numel()
        pair = src * self.pairs.num_nodes + dst
        at = torch.searchsorted(self.pairs.pair, pair).clamp_(max=self.pairs.pair.numel() - 1)
        begin = torch.searchsorted(self.others, at * num_events)
        count = torch.searchsorted(self.others, at * num_events + choice, right=True) - begin
        return torch.where(self.pairs.pair[at] == pair, count, 0)
