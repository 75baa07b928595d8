"""The baseline that a model must beat: destinations scored by how often they occurred so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def popularity_ap(data: TemporalData, events: range, negatives: Tensor) -> float:
    """Returns the average precision of popularity, the number of earlier events with the same destination.

    This baseline sees more than a model, from which the earlier events of the same batch are hidden.

    Args:
        data: A stream as `check_stream` returns it.
        events: The events to score, such as `split.val`.
        negatives: A negative destination per event, `negatives: Int64[len(events)]`.
    """
    # imported here, as scikit-learn takes a second to import and few need this
    from sklearn.metrics import average_precision_score

    destinations: Tensor = data["dst"]
    num_events = len(destinations)
    queries = torch.arange(events.start, events.stop)
    # sorted by (destination, event), a destination's earlier events are those between its first entry and the query
    uses = (destinations * num_events + torch.arange(num_events)).sort().values
    scores = [
        torch.searchsorted(uses, dst * num_events + queries) - torch.searchsorted(uses, dst * num_events)
        for dst in (destinations[events.start : events.stop], negatives)
    ]
    labels = torch.cat([torch.ones(len(events)), torch.zeros(len(events))])
    return float(average_precision_score(labels.numpy(), torch.cat(scores).numpy()))
