"""Pairs of nodes that met before but do not meet now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.data.negatives import Negatives, Positives, generator_seed
from pyg_mspipe.tasks.protocols.draw import draw_distinct, draw_outside
from pyg_mspipe.tasks.protocols.met import TrueDestinations
from pyg_mspipe.tasks.protocols.random import check_draw, true_of
from pyg_mspipe.tasks.protocols.spans import place

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


class PastPairs:
    """Negatives that are pairs of nodes which met before: historical and inductive ones (Poursafaei et al. 2022).

    *Towards Better Evaluation for Dynamic Link Prediction* (NeurIPS 2022), section 4.2. Of the distinct pairs whose
    first event is in ``first_seen`` and before the batch, those may be drawn of which no event lies within the batch's
    times, from that of its first to that of its last event. With ``first_seen`` the training events these are the
    paper's *historical* negatives, with the evaluated part its *inductive* ones.

    The events of a batch and their ``num`` negatives are ``num`` sets of as many pairs as the batch has events. No pair
    is twice in a set, nor twice among the negatives of one event. Where there are fewer pairs than ``num`` or than the
    batch has events, they are spread over the sets at random, each set having as many of them as the others but for
    chance; the rest are random negatives of the event's own source, as :class:`RandomNegatives` draws them.
    :meth:`num_pairs` counts the pairs that there are for a batch.

    The code that came with the paper, and DyGLib, take as historical all pairs seen before the batch, also those first
    seen after training. They fill up with pairs whose source is another node's too, and one negative for each event is
    all that they draw.

    Args:
        data: The stream.
        first_seen: The events in which a pair must have met for the first time.
        num: Negatives for each event.
        low: The smallest destination of the random negatives that fill up.
        high: The largest of these.
        seed: One or several non-negative integers.
        met: The true destinations: a random negative is then none that its source truly meets at the event's time.
            The pairs never are true, with these or without.

    Example:
        >>> from pyg_mspipe import split_stream, synthetic
        >>> from pyg_mspipe.data import Positives
        >>> from pyg_mspipe.tasks.protocols import PastPairs
        >>> data = synthetic(500)
        >>> split = split_stream(data)
        >>> low, high = int(data.dst.min()), int(data.dst.max())
        >>> historical = PastPairs(data, split.train, 3, low=low, high=high, seed=0)
        >>> negatives = historical(Positives.of(data, split.val))
        >>> negatives.src.shape == negatives.dst.shape == (3, len(split.val))
        True
    """

    def __init__(
        self,
        data: TemporalData,
        first_seen: range,
        num: int,
        *,
        low: int,
        high: int,
        seed: int | tuple[int, ...],
        met: TrueDestinations | None = None,
    ) -> None:
        check_draw(low, high, num)
        self.num, self.low, self.high, self.seed, self.met = num, low, high, seed, met
        src, dst, self._t = data.src.cpu(), data.dst.cpu(), data.t.cpu()
        self._num_nodes = int(torch.maximum(src.max(), dst.max())) + 1
        self._pair_of = src * self._num_nodes + dst
        known, inverse = self._pair_of[: first_seen.stop].unique(return_inverse=True)
        first = torch.full_like(known, first_seen.stop)
        first.scatter_reduce_(0, inverse, torch.arange(first_seen.stop), "amin")
        chosen = first >= first_seen.start
        # By their first event, so that those before a batch are a prefix.
        self._first, order = first[chosen].sort()
        self._pair = known[chosen][order]
        self._sorted, self._place = self._pair.sort()

    def num_pairs(self, positives: Positives) -> int:
        """Returns how many pairs the negatives of a batch are drawn from; a set that needs more has random ones too.

        Args:
            positives: The events.
        """
        size, excluded = self._choice(positives.events)
        return size - excluded.numel()

    def __call__(self, positives: Positives, /) -> Negatives:
        """Returns the negatives of a batch, ``num`` for each event, with sources of their own, on the CPU.

        Args:
            positives: The events, a whole batch.
        """
        generator = torch.Generator().manual_seed(generator_seed(self.seed, positives.epoch, positives.batch))
        at = self._draw(positives.events, generator)
        own = positives.src.cpu().expand_as(at)
        if not self._pair.numel():
            src, dst = own.clone(), at
        else:
            pair = self._pair[at.clamp(min=0)]
            src = torch.where(at < 0, own, pair.div(self._num_nodes, rounding_mode="floor"))
            dst = torch.where(at < 0, -1, pair.remainder(self._num_nodes))
        if bool((dst < 0).any()):
            dst = self._filled(src, dst, own, positives, generator)
        missing = dst < 0
        if not bool(missing.any()):
            return Negatives(dst, src)
        order = missing.byte().argsort(dim=0, stable=True)
        return Negatives(dst.gather(0, order), src.gather(0, order), padded=True)

    def _choice(self, events: range) -> tuple[int, Tensor]:
        """Returns how many pairs had met before a batch, and Int64[X], the places among them of those that meet now."""
        size = int(torch.searchsorted(self._first, events.start))
        begin = torch.searchsorted(self._t, self._t[events.start])
        end = torch.searchsorted(self._t, self._t[events.stop - 1], right=True)
        at = place(self._sorted, self._pair_of[int(begin) : int(end)].unique())
        now = self._place[at[at >= 0]]
        return size, now[now < size]

    def _draw(self, events: range, generator: torch.Generator) -> Tensor:
        """Returns places of pairs, Int64[num, B], -1 where there are none left."""
        size, excluded = self._choice(events)
        pool, wanted = size - excluded.numel(), self.num * len(events)
        count = torch.tensor([min(pool, wanted)])
        drawn = draw_outside(0, size - 1, count, torch.zeros_like(excluded), excluded, generator)[0]
        if pool >= wanted:
            return drawn.view(self.num, -1)
        # All pairs and as many gaps as needed lie on a ring in random order; each set begins at another place of it. So
        # no pair comes twice within a set, as long as the ring has its length, nor twice at the same event.
        period = max(pool, self.num, len(events))
        ring = torch.cat([drawn, drawn.new_full((period - pool,), -1)])[torch.randperm(period, generator=generator)]
        begin = draw_distinct(torch.tensor([period]), torch.tensor([self.num]), generator)[0]
        return ring[(begin[:, None] + torch.arange(len(events))) % period]

    def _filled(
        self, src: Tensor, dst: Tensor, own: Tensor, positives: Positives, generator: torch.Generator
    ) -> Tensor:
        """Returns ``dst`` with random destinations where it is -1, Int64[num, B]; -1 where there are none left."""
        gap = dst < 0
        row, forbidden = true_of(positives, self.met)
        _, same = (~gap & (src == own)).nonzero(as_tuple=True)
        row, forbidden = torch.cat([row, same]), torch.cat([forbidden, dst[~gap & (src == own)]])
        drawn = draw_outside(self.low, self.high, gap.sum(dim=0), row, forbidden, generator).t()
        nth = (gap.cumsum(dim=0) - 1).clamp_(min=0, max=drawn.size(0) - 1)
        return torch.where(gap, drawn.gather(0, nth), dst)
