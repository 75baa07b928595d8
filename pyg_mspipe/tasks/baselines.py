"""Link prediction without a model: pairs are scored by what a table of earlier events says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.graph.pair_history import PairHistory
from pyg_mspipe.pipeline.batches import Batches
from pyg_mspipe.tasks.link_metrics import LinkMetrics, link_metrics
from pyg_mspipe.tasks.ranking import Ranking

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

BASELINES = ("edgebank", "edgebank_window", "popularity", "popularity_recent", "pair_recency")
"""The names of the baselines of link prediction; see :class:`Baselines`."""

_WINDOW_PERCENT = 15


@dataclass(frozen=True)
class Baselines:
    """Scores of pairs by the events before a batch, which are those that a model's memory has seen.

    * ``edgebank``: 1 if the pair has met, else 0 (Poursafaei et al. 2022, section 4.2, unlimited memory).
    * ``edgebank_window``: 1 if the pair has met within a window of time that ends with the last event seen. The window
      is as long as in TGB's ``EdgeBankPredictor``: 15 % of the time that the training events span. In the paper it is
      as long as the part that is evaluated.
    * ``popularity``: how many events had the destination.
    * ``popularity_recent``: how many of the last 5,000 events had it; a window of events in place of the decay
      of PopTrack (Daniluk and Dabrowski 2023, arXiv 2309.15730), whose rate would have to be chosen for each stream.
    * ``pair_recency``: the later the pair last met, the higher; pairs that never met are lowest.

    Pairs are directed: an event from ``u`` to ``v`` is none of ``(v, u)``.

    Attributes:
        pairs: The events of each pair.
        destinations: The events of each destination, as those of pairs whose source is node 0.
        t: Int64[E], the times of events.
        moment: Int64[E], the first event that has the time of each.
        window: The length of the window of ``edgebank_window``, in the stream's unit.
        recent: How many events ``popularity_recent`` counts.

    Example:
        >>> import torch
        >>> from pyg_mspipe import split_stream, synthetic
        >>> from pyg_mspipe.tasks import Baselines
        >>> data = synthetic(1000)
        >>> baselines = Baselines.of(data, split_stream(data).train)
        >>> src, dst = data.src[700:703], data.dst[700:703]
        >>> baselines.scores(src, dst, bound=700)["edgebank"].shape
        torch.Size([3])
    """

    pairs: PairHistory
    destinations: PairHistory
    t: Tensor
    moment: Tensor
    window: int
    recent: int = 5000

    @classmethod
    def of(cls, data: TemporalData, train: range) -> Baselines:
        """Returns the baselines of a stream. O(E log E) time, 40 bytes for an event or fewer.

        Args:
            data: The stream.
            train: The training events.
        """
        num_nodes = data.num_nodes
        assert num_nodes is not None
        span = int(data.t[train.stop - 1]) - int(data.t[train.start])
        return cls(
            PairHistory.from_events(data.src, data.dst, num_nodes),
            PairHistory.from_events(torch.zeros_like(data.dst), data.dst, num_nodes),
            data.t,
            torch.searchsorted(data.t, data.t),
            # Times are whole, so that a window of 4.5 is one of 4.
            span * _WINDOW_PERCENT // 100,
        )

    def scores(self, src: Tensor, dst: Tensor, bound: int) -> dict[str, Tensor]:
        """Returns the scores of pairs by each baseline's name: Float64[...].

        Args:
            src: Int64[...].
            dst: Int64[...], which broadcasts against ``src``.
            bound: Only events with a smaller id are seen, such as those before a batch.
        """
        last = self.pairs.last(src, dst, bound)
        now = int(self.t[max(bound - 1, 0)])
        begin = int(torch.searchsorted(self.t, now - self.window))
        one = torch.zeros_like(dst)
        uses = self.destinations.count(one, dst, bound)
        long_ago = self.destinations.count(one, dst, max(bound - self.recent, 0))
        scores = {
            "edgebank": last >= 0,
            "edgebank_window": last >= begin,
            "popularity": uses,
            "popularity_recent": uses - long_ago,
            "pair_recency": torch.where(last >= 0, self.moment[last.clamp(min=0)], -1),
        }
        return {name: each.double() for name, each in scores.items()}


def evaluate_baselines(
    baselines: Baselines, batches: Batches, groups: EventGroups | None = None, names: Sequence[str] = BASELINES
) -> dict[str, LinkMetrics]:
    """Returns the metrics of baselines by name, on the events and negatives that a model would be evaluated on.

    Args:
        baselines: Of the batches' stream.
        batches: The batches of the events to evaluate; their negatives are those of epoch 0.
        groups: The groups of the stream's events; without them there are no metrics of groups.
        names: Which baselines.

    Raises:
        ValueError: If no event has a negative.
    """
    rankings: dict[str, list[Ranking]] = {name: [] for name in names}
    for index in range(len(batches)):
        events = batches.events_of(index)
        own = slice(events.start, events.stop)
        negatives = batches.negatives_of(events, 0, index)
        src, dst = batches.data.src[own], torch.cat([batches.data.dst[None, own], negatives.dst])
        if negatives.src is not None:
            src = torch.cat([src[None], negatives.src])
        scores = baselines.scores(src, dst, events.start)
        for name in names:
            if negatives.padded:
                scores[name][1:].masked_fill_(negatives.dst < 0, -torch.inf)
            rankings[name].append(Ranking.of(scores[name].cpu()))
    return {name: link_metrics(each, batches.events, groups, logits=False) for name, each in rankings.items()}
