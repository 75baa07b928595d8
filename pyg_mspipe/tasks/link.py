"""Link prediction: events are told from negatives, pairs of the same source and a destination drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mspipe._choices import BestBy, HeadName, LossName
from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.graph.pair_features import PairFeatures
from pyg_mspipe.models.common_neighbors import CommonNeighborPredictor
from pyg_mspipe.models.link_predictor import LinkPredictor
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.tasks.link_metrics import LinkMetrics, link_metrics
from pyg_mspipe.tasks.ranking import Ranking
from pyg_mspipe.tasks.task import Metrics, Task

BEST_LABELS: dict[BestBy, str] = {"ap": "AP", "auc": "AUC", "mrr": "MRR", "hits_10": "Hits@10"}
"""The names of the metrics in what people read."""


class LinkPrediction(Task):
    """Scores each event and its negatives with a :class:`~pyg_mspipe.LinkPredictor` or one of its kind.

    Args:
        embedding_dim: Width of the embeddings.
        eval_negatives: Negatives for each event in evaluation; AP and AUC use the first.
        best_by: The metric of the best epoch.
        train_negatives: Negatives for each event in training.
        loss: ``"bce"``: binary cross entropy of events and of negatives; ``"softmax"``: cross entropy of each event
            among its negatives, as in DistTGL (Zhou et al. 2023, arXiv 2307.07649).
        head: ``"mlp"``: a pair is scored by its embeddings; ``"common"``: also by common neighbours, see
            :class:`~pyg_mspipe.models.CommonNeighborPredictor`.
        pair_features: Whether scores read :class:`~pyg_mspipe.graph.PairFeatures` too.
        row_dim: Width of the rows of nodes that the model hands out, for ``"common"``.

    Raises:
        ValueError: If loss or head is unknown, or the head wants rows that the model does not hand out.
    """

    embeds_once = True
    score_dim = 1

    def __init__(
        self,
        embedding_dim: int,
        *,
        eval_negatives: int = 10,
        best_by: BestBy = "ap",
        train_negatives: int = 1,
        loss: LossName = "bce",
        head: HeadName = "mlp",
        pair_features: bool = False,
        row_dim: int = 0,
    ) -> None:
        super().__init__()
        for name, value, known in (("loss", loss, get_args(LossName)), ("head", head, get_args(HeadName))):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}")
        if head == "common" and not row_dim:
            raise ValueError(
                "head common sums what the model knows of nodes, but this model hands out no rows of them; let it "
                "define row_dim and embed_with_rows, or choose head mlp"
            )
        self.negatives = train_negatives
        self.best = best_by
        self.best_label = BEST_LABELS[best_by]
        self.chance = 0.5 if best_by in ("ap", "auc") else None
        self.eval_negatives = eval_negatives
        self.loss_name = loss
        self.pair_features = pair_features
        self.common_neighbors = head == "common"
        pair_dim = PairFeatures.width if pair_features else 0
        self.head = (
            CommonNeighborPredictor(embedding_dim, row_dim, pair_dim=pair_dim)
            if self.common_neighbors
            else LinkPredictor(embedding_dim, pair_dim=pair_dim)
        )

    def loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns the loss that events are told from their negatives with, a mean: Float32[].

        Args:
            z: [A, embedding_dim], of what :func:`~pyg_mspipe.pipeline.ask_pairs` asks.
            batch: The batch.
        """
        logits = self.logits(z, batch)
        if self.loss_name == "softmax":
            return softmax_loss(logits)
        there = batch.negatives.dst >= 0 if batch.negatives.padded else None
        return link_loss(logits, there)

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
        if batch.asked is None and not self._reads_pairs:
            logits = self.score_pairs(*_pairs(z, batch))
        else:
            asked = torch.arange(z.size(0), device=z.device) if batch.asked is None else batch.asked
            logits = self.score_rows(z, *_pairs(asked, batch), batch)
        if batch.negatives.padded:
            logits[1:].masked_fill_(batch.negatives.dst < 0, -torch.inf)
        return logits

    @property
    def _reads_pairs(self) -> bool:
        return self.pair_features or self.common_neighbors

    def score_pairs(self, z_src: Tensor, z_dst: Tensor, batch: Batch | None = None) -> Tensor:
        """Returns a logit for each pair of nodes: Float32[...].

        Args:
            z_src: [..., embedding_dim].
            z_dst: [..., embedding_dim].
            batch: What :meth:`Batches.ask` gives for ``n`` pairs, where the head reads more than embeddings, which are
                [n, embedding_dim] then.

        Raises:
            ValueError: If the head needs a batch and there is none.
        """
        if self._reads_pairs:
            if batch is None:
                raise ValueError("this head reads more of pairs than their embeddings; score them with Run.score")
            src, dst = torch.arange(2 * z_src.size(0), device=z_src.device).chunk(2)
            return self.score_rows(torch.cat([z_src, z_dst]), src, dst.unsqueeze(0), batch).squeeze(0)
        out: Tensor = self.head(z_src, z_dst).squeeze(-1)
        return out.float()

    def score_rows(self, z: Tensor, src: Tensor, dst: Tensor, batch: Batch) -> Tensor:
        """Returns a logit for each pair of rows: Float32[1 + K, B].

        Args:
            z: [R, embedding_dim].
            src: Int64[B] or Int64[1 + K, B], rows of ``z``.
            dst: Int64[1 + K, B], rows of ``z``.
            batch: What is known of the pairs beside, if the head reads it.

        Raises:
            ValueError: If the head reads what the batch does not bring.
        """
        pairs = batch.pairs if self._reads_pairs else None
        if self._reads_pairs and pairs is None:
            raise ValueError("the head reads features or common neighbours of pairs; give Batches a PairReader, pairs=")
        return self.head.score_rows(z, src.t(), dst.t(), pairs, batch.node_rows).t().float()

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
    """Returns the binary cross entropy of events plus that of their negatives, if any, each a mean: Float32[].

    Args:
        logits: [1 + K, B], the events' own in row 0.
        there: Bool[K, B], which negatives there are; by default all.
    """
    own, negative = logits[0], logits[1:] if there is None else logits[1:][there]
    positive = F.binary_cross_entropy_with_logits(own, torch.ones_like(own))
    if not negative.numel():  # the mean of none is nan
        return positive
    return positive + F.binary_cross_entropy_with_logits(negative, torch.zeros_like(negative))


def softmax_loss(logits: Tensor) -> Tensor:
    """Returns the cross entropy of each event among its negatives, a mean: Float32[].

    Args:
        logits: [1 + K, B], the events' own in row 0; -inf where a negative is missing.
    """
    return F.cross_entropy(logits.t(), torch.zeros(logits.size(1), dtype=torch.long, device=logits.device))


def _pairs(x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Returns sources, [B, ...] or [1 + K, B, ...], and destinations, [1 + K, B, ...], of events and negatives.

    Args:
        x: [A, ...], for each node that :func:`~pyg_mspipe.pipeline.ask_pairs` asks for.
        batch: The batch.
    """
    size, num = batch.src.size(0), batch.negatives.dst.size(0)
    src, dst, others = x.split([size, (1 + num) * size, x.size(0) - (2 + num) * size])
    if batch.negatives.src is not None:
        src = torch.cat([src, others]).view(1 + num, size, *x.shape[1:])
    return src, dst.view(1 + num, size, *x.shape[1:])
