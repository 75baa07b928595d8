"""Evaluation of link prediction on later events: AP, AUC and MRR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pyg_mspipe.models import TGN, StaticTGN
from pyg_mspipe.pipeline.batches import Batch, Batches


class DivergedError(ArithmeticError):
    """Training left the finite numbers, with how to mend it."""


@dataclass(frozen=True)
class LinkMetrics:
    """How well events are told from negatives.

    Attributes:
        ap: Average precision against one negative for each event, mean over batches as in PyG's example.
        auc: Area under the ROC curve, likewise.
        mrr: Mean over events of the reciprocal rank among ``num_negatives`` negatives; ties count half.
        num_negatives: Negatives for each event.
        ap_unseen: AP over all events that touch a node without any training event; nothing if there are none.
        num_events: Events evaluated.
    """

    ap: float
    auc: float
    mrr: float
    num_negatives: int
    ap_unseen: float | None
    num_events: int


def scores(model: TGN | StaticTGN, batch: Batch) -> Tensor:
    """Returns logits, [1 + K, B]: the events' own in row 0, their negatives' in the others."""
    z = model(batch)
    size = len(batch.events)
    out: Tensor = model.link_pred(z[:size], z[size:].view(1 + batch.neg_dst.size(0), size, -1)).squeeze(-1)
    return out.float()


def evaluate(
    model: TGN, batches: Batches, *, unseen: Tensor | None = None, on_batch: Callable[[int], None] | None = None
) -> LinkMetrics:
    """Returns the metrics of a range of events and leaves the memory as it is after them.

    The memory must be that of the moment before the first event. The model is put into evaluation mode, which flushes
    its pending messages.

    Args:
        model: Its memory is updated with each batch, after that batch was scored.
        batches: Of the events to evaluate; read as epoch 0.
        unseen: Bool[E] over the whole stream, events that touch a node without any training event.
        on_batch: Called with the number of events of each batch done.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    logits = score_batches(model, batches, range(len(batches)), on_batch)
    return link_metrics(list(logits.values()), batches.events, unseen)


@torch.no_grad()
def score_batches(
    model: TGN, batches: Batches, which: range, on_batch: Callable[[int], None] | None = None
) -> dict[int, Tensor]:
    """Returns the logits of some batches, by number, and leaves the memory as it is after all of them.

    Args:
        model: As for :func:`evaluate`.
        batches: As for :func:`evaluate`.
        which: The batches to score; the others only update the memory, which is the same whoever scores them.
        on_batch: As for :func:`evaluate`.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    model.eval()
    model.settle(batches)
    scored: dict[int, Tensor] = {}
    for index in range(len(batches)):
        events = batches.events_of(index)
        if index in which:
            batch = batches.read(0, index)
            logits = scores(model, batch).cpu()
            if bool(logits.isnan().any()):
                raise DivergedError(f"evaluation, batch {index}: the model's scores are nan; lower lr, or scale msg")
            scored[index] = logits
        else:
            batch = batches.without_queries(events)
        model.state.apply(model.commit(batch), settled=True)
        if on_batch is not None:
            on_batch(len(events))
    return scored


def link_metrics(logits: Sequence[Tensor], events: range, unseen: Tensor | None = None) -> LinkMetrics:
    """Returns the metrics of scored batches.

    Args:
        logits: Of each batch in order, [1 + K, B].
        events: The event ids of all batches.
        unseen: Bool[E] over the whole stream, events that touch a node without any training event.
    """
    pairs = [_one_negative(each) for each in logits]
    together = torch.cat(list(logits), dim=1)
    chosen = together[:, :0] if unseen is None else together[:, unseen[events.start : events.stop].cpu()]
    return LinkMetrics(
        ap=sum(average_precision_score(label, score) for label, score in pairs) / len(pairs),
        auc=sum(roc_auc_score(label, score) for label, score in pairs) / len(pairs),
        mrr=float(reciprocal_rank(together).mean()),
        num_negatives=together.size(0) - 1,
        ap_unseen=float(average_precision_score(*_one_negative(chosen))) if chosen.size(1) else None,
        num_events=together.size(1),
    )


def reciprocal_rank(logits: Tensor) -> Tensor:
    """Returns Float32[B], one over each event's rank among its negatives, a tie counting as half a place.

    Args:
        logits: [1 + K, B], the events' own in row 0.
    """
    above = (logits[1:] > logits[0]).sum(dim=0)
    level = (logits[1:] == logits[0]).sum(dim=0)
    return 1 / (1 + above + level / 2)


def _one_negative(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns labels and scores of the events and the first negative of each."""
    score = logits[:2].sigmoid()
    return torch.tensor([1, 0]).repeat_interleave(score.size(1)), score.flatten()
