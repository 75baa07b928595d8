"""Link prediction: events are told from negatives, pairs of the same source and a destination drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mspipe._choices import BestBy
from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.models.link_predictor import LinkPredictor
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.tasks.link_metrics import LinkMetrics, link_metrics
from pyg_mspipe.tasks.ranking import Ranking
from pyg_mspipe.tasks.task import Metrics, Task

BEST_LABELS: dict[BestBy, str] = {"ap": "AP", "auc": "AUC", "mrr": "MRR", "hits_10": "Hits@10"}
"""The names of the metrics in what people read."""


class LinkPrediction(Task):
    """Scores each event and its negatives with a :class:`~pyg_mspipe.LinkPredictor`.

    Args:
        embedding_dim: Width of the embeddings.
        eval_negatives: Negatives for each event in evaluation; AP and AUC use the first.
        best_by: The metric of the best epoch.
    """

    embeds_once = True
    score_dim = 1

    def __init__(self, embedding_dim: int, *, eval_negatives: int = 10, best_by: BestBy = "ap") -> None:
        super().__init__()
        self.best = best_by
        self.best_label = BEST_LABELS[best_by]
        self.chance = 0.5 if best_by in ("ap", "auc") else None
        self.eval_negatives = eval_negatives
        self.head = LinkPredictor(embedding_dim)

    def loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns the binary cross entropy of events plus that of their negatives, each a mean: Float32[].

        Args:
            z: [A, embedding_dim], of what :func:`~pyg_mspipe.pipeline.ask_pairs` asks.
            batch: The batch.
        """
        there = batch.negatives.dst >= 0 if batch.negatives.padded else None
        return link_loss(self.logits(z, batch), there)

    def scores(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns how each event stands among its negatives, :attr:`Ranking.table`: Float32[4, B].

        Args:
            z: As :meth:`logits` takes it.
            batch: The batch.
        """
        return Ranking.of(self.logits(z, batch)).table

    def logits(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns logits, [1 + K, B]: the events' own in row 0, their negatives' in the others, -inf for missing ones.

        Args:
            z: [A, embedding_dim], of what :func:`~pyg_mspipe.pipeline.ask_pairs` asks; or its distinct rows, see
                ``batch.asked``.
            batch: The batch.
        """
        if batch.asked is None:
            logits = self.score_pairs(*_pairs(z, batch))
        else:
            logits = self.score_rows(z, *_pairs(batch.asked, batch))
        if batch.negatives.padded:
            logits[1:].masked_fill_(batch.negatives.dst < 0, -torch.inf)
        return logits

    def score_pairs(self, z_src: Tensor, z_dst: Tensor) -> Tensor:
        """Returns a logit for each pair of nodes: Float32[...].

        Args:
            z_src: [..., embedding_dim].
            z_dst: [..., embedding_dim].
        """
        out: Tensor = self.head(z_src, z_dst).squeeze(-1)
        return out.float()

    def score_rows(self, z: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        """Returns a logit for each pair of rows: Float32[1 + K, B].

        Args:
            z: [R, embedding_dim].
            src: Int64[B] or Int64[1 + K, B], rows of ``z``.
            dst: Int64[1 + K, B], rows of ``z``.
        """
        return self.head.score_rows(z, src.t(), dst.t()).t().float()

    def metrics(self, scores: Sequence[Tensor], events: range, groups: EventGroups | None = None) -> LinkMetrics:
        """Returns the metrics of scored batches.

        Args:
            scores: What :meth:`scores` gave for each batch, Float32[4, B], in order.
            events: The event ids of all batches.
            groups: The groups of the stream's events.

        Raises:
            ValueError: If no event has a negative.
        """
        return link_metrics([Ranking.from_table(each) for each in scores], events, groups)

    def columns(self, metrics: Metrics) -> dict[str, str]:
        """Returns the metrics as the columns of a table: by heading, what stands under it."""
        assert isinstance(metrics, LinkMetrics)
        return metrics.columns()

    def group_columns(self, metrics: Metrics) -> dict[str, dict[str, str]]:
        """Returns the metrics of each group of events as the columns of a table, by the group's name."""
        assert isinstance(metrics, LinkMetrics)
        return metrics.group_columns()

    def line(self, metrics: Metrics) -> str:
        """Returns AP, AUC and MRR."""
        columns = self.columns(metrics)
        return "  ".join(f"{name} {columns[name]}" for name in list(columns)[1:4])


def link_loss(logits: Tensor, there: Tensor | None = None) -> Tensor:
    """Returns the binary cross entropy of events plus that of their negatives, each a mean: Float32[].

    Args:
        logits: [1 + K, B], the events' own in row 0.
        there: Bool[K, B], which negatives there are; by default all.
    """
    own, negative = logits[0], logits[1:] if there is None else logits[1:][there]
    positive = F.binary_cross_entropy_with_logits(own, torch.ones_like(own))
    return positive + F.binary_cross_entropy_with_logits(negative, torch.zeros_like(negative))


def _pairs(x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns sources, [B, ...] or [1 + K, B, ...], and destinations, [1 + K, B, ...], of events and negatives.

    Args:
        x: [A, ...], for each node that :func:`~pyg_mspipe.pipeline.ask_pairs` asks for.
        batch: The batch.
    """
    size, num = len(batch.events), batch.negatives.dst.size(0)
    src, dst, others = x.split([size, (1 + num) * size, x.size(0) - (2 + num) * size])
    if batch.negatives.src is not None:
        src = torch.cat([src, others]).view(1 + num, size, *x.shape[1:])
    return src, dst.view(1 + num, size, *x.shape[1:])
