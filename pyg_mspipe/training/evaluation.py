"""Evaluation of link prediction on later events: AP, AUC and MRR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pyg_mspipe.models import TGN
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


def scores(model: TGN, batch: Batch) -> Tensor:
    """Returns logits, [1 + K, B]: the events' own in row 0, their negatives' in the others."""
    z = model(batch.sample, batch.edge_time, batch.edge_msg)
    size = len(batch.events)
    out: Tensor = model.link_pred(z[:size], z[size:].view(1 + batch.neg_dst.size(0), size, -1)).squeeze(-1)
    return out.float()


@torch.no_grad()
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
    model.eval()
    all_logits, aps, aucs = [], [], []
    for index in range(len(batches)):
        batch = batches.read(0, index)
        logits = scores(model, batch)
        model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
        logits = logits.cpu()
        if bool(logits.isnan().any()):
            raise DivergedError(f"evaluation, batch {index}: the model's scores are nan; lower lr, or scale msg")
        label, score = _one_negative(logits)
        aps.append(average_precision_score(label, score))
        aucs.append(roc_auc_score(label, score))
        all_logits.append(logits)
        if on_batch is not None:
            on_batch(len(batch.events))
    logits = torch.cat(all_logits, dim=1)
    events = batches.events
    chosen = logits[:, :0] if unseen is None else logits[:, unseen[events.start : events.stop].cpu()]
    return LinkMetrics(
        ap=sum(aps) / len(aps),
        auc=sum(aucs) / len(aucs),
        mrr=float(reciprocal_rank(logits).mean()),
        num_negatives=logits.size(0) - 1,
        ap_unseen=float(average_precision_score(*_one_negative(chosen))) if chosen.size(1) else None,
        num_events=logits.size(1),
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
