"""The metrics of link prediction, of how events stand among their negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.tasks.ranking import Ranking
from pyg_mspipe.tasks.task import Metrics


@dataclass(frozen=True)
class GroupMetrics:
    """How well the events of a group are told from negatives.

    Attributes:
        num_events: Events of the group.
        mrr: Mean over events of the reciprocal rank.
        hits_10: Share of events with a rank of at most 10.
        ap: AP over all events of the group against the first negative of each; nothing if none has a negative.
    """

    num_events: int
    mrr: float
    hits_10: float
    ap: float | None


@dataclass(frozen=True)
class LinkMetrics(Metrics):
    """How well events are told from negatives.

    Ranks are TGB's: 1 plus the negatives above plus half of those level, so that ties count half. An event without
    negatives has rank 1 and no part in AP and AUC, which are against the first negative of each other event. Means
    over batches are those of PyG's example, and depend on the batch size; those named ``micro`` do not.

    Attributes:
        ap: Average precision against one negative for each event, mean over batches as in PyG's example.
        auc: Area under the ROC curve against the same negatives, mean over batches too.
        mrr: Mean over events of the reciprocal rank among ``num_negatives`` negatives.
        num_negatives: Negatives for each event; where their numbers differ, the largest.
        ap_unseen: AP over all events that touch a node without any training event; nothing if there are none.
        num_events: Events evaluated.
        hits_1: Share of events with a rank of at most 1.
        hits_3: Share of events with a rank of at most 3.
        hits_10: Share of events with a rank of at most 10.
        ap_micro: AP against the same negatives as ``ap``, over all events at once.
        auc_micro: AUC against the same negatives, over all events at once.
        groups: The metrics of each group of events that has any, by its name; see
            :meth:`EventGroups.masks <pyg_mspipe.data.EventGroups.masks>`.
    """

    ap: float
    auc: float
    mrr: float
    num_negatives: int
    ap_unseen: float | None
    num_events: int
    hits_1: float
    hits_3: float
    hits_10: float
    ap_micro: float
    auc_micro: float
    groups: dict[str, GroupMetrics]

    def columns(self) -> dict[str, str]:
        """Returns those that are compared most, as the columns of a table: by heading, what stands under it."""
        return {
            "count": f"{self.num_events:,}",
            "AP": f"{self.ap:.4f}",
            "AUC": f"{self.auc:.4f}",
            f"MRR@{self.num_negatives}": f"{self.mrr:.4f}",
            "Hits@10": f"{self.hits_10:.4f}",
            "AP, unseen nodes": _shown(self.ap_unseen),
        }

    def group_columns(self) -> dict[str, dict[str, str]]:
        """Returns the metrics of each group as the columns of a table, by the group's name."""
        return {
            name: {
                "count": f"{each.num_events:,}",
                "AP": _shown(each.ap),
                f"MRR@{self.num_negatives}": f"{each.mrr:.4f}",
                "Hits@10": f"{each.hits_10:.4f}",
            }
            for name, each in self.groups.items()
        }


def link_metrics(
    rankings: Sequence[Ranking], events: range, groups: EventGroups | None = None, *, logits: bool = True
) -> LinkMetrics:
    """Returns the metrics of the rankings of batches.

    Args:
        rankings: Of each batch, in order.
        events: The event ids of all batches.
        groups: Of the stream's events; without them there are no metrics of groups.
        logits: Whether the scores were logits. AP and AUC are then made of their sigmoids, as in PyG's example, whose
            rounding makes a few of them level.

    Raises:
        StreamError: If no event has a negative.
    """
    # Imported here, as scikit-learn takes a second to import.
    from sklearn.metrics import average_precision_score, roc_auc_score

    found = [each for each in (_pairs(ranking, logits) for ranking in rankings) if each is not None]
    if not found:
        raise StreamError(
            f"no event of {events.start} to {events.stop - 1} has a negative; give each at least one, such as with "
            f"protocol random and negatives nodes where the stream has a single destination"
        )
    whole = Ranking.together(rankings)
    pairs = _pairs(whole, logits)
    assert pairs is not None
    masks = {} if groups is None else groups.masks(events)
    told = {name: _of_group(whole.of_events(mask), logits) for name, mask in masks.items()}
    inductive = told.get("inductive")
    return LinkMetrics(
        ap=sum(average_precision_score(*each) for each in found) / len(found),
        auc=sum(roc_auc_score(*each) for each in found) / len(found),
        mrr=float(whole.reciprocal.mean()),
        num_negatives=int(whole.num_negatives.max()),
        ap_unseen=None if inductive is None else inductive.ap,
        num_events=whole.rank.numel(),
        hits_1=whole.hits(1),
        hits_3=whole.hits(3),
        hits_10=whole.hits(10),
        ap_micro=float(average_precision_score(*pairs)),
        auc_micro=float(roc_auc_score(*pairs)),
        groups=told,
    )


def _of_group(ranking: Ranking, logits: bool) -> GroupMetrics:
    """Returns the metrics of a group's events, of which there is at least one."""
    from sklearn.metrics import average_precision_score

    pairs = _pairs(ranking, logits)
    ap = None if pairs is None else float(average_precision_score(*pairs))
    return GroupMetrics(ranking.rank.numel(), float(ranking.reciprocal.mean()), ranking.hits(10), ap)


def _pairs(ranking: Ranking, logits: bool) -> tuple[Tensor, Tensor] | None:
    """Returns labels and scores of the events that have a negative and of the first of each; nothing if none has."""
    pair, there = ranking.pair, ranking.num_negatives > 0
    if not bool(there.all()):
        pair = pair[:, there]
    if not pair.size(1):
        return None
    score = pair.sigmoid() if logits else pair
    return torch.tensor([1, 0]).repeat_interleave(score.size(1)), score.flatten()


def _shown(value: float | None) -> str:
    """Returns a number as it stands in a table."""
    return "-" if value is None else f"{value:.4f}"
