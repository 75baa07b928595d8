"""Node property prediction, as in TGB: how much of each class a node will have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.data.splits import StreamSplit
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.queries import Queries, ask_labelled_nodes
from pyg_mspipe.tasks.labelled import LabelledTask, needed_labels, together
from pyg_mspipe.tasks.task import Metrics

_RANKS = 10


@dataclass(frozen=True)
class PropertyMetrics(Metrics):
    """How well the classes of nodes are ranked.

    Attributes:
        ndcg: NDCG@10, mean over labels, as TGB's evaluator has it.
        num_labels: Labels evaluated.
    """

    ndcg: float
    num_labels: int


class NodeProperty(LabelledTask):
    """Tells a distribution over classes for each labelled node, from its embedding as of the label's moment.

    Batches are cut where labels stand: all events before a label are applied before it is asked for, as in TGB. The
    loss is the cross entropy of the distribution.

    Args:
        embedding_dim: Width of the embeddings.
        labels: The labels, a number for each class.
        split: The parts of the stream.

    Raises:
        ValueError: If there are no labels in a part of the stream, or they are single classes.
    """

    best = "ndcg"
    best_label = f"NDCG@{_RANKS}"
    cuts_at_labels = True

    def __init__(self, embedding_dim: int, *, labels: Labels | None, split: StreamSplit) -> None:
        labels = needed_labels(labels, type(self).__name__)
        if labels.y.dim() != 2 or labels.num_classes < 2:
            raise ValueError(
                "task property needs labels with a number for each of at least two classes; give columns y_0, y_1 and "
                "so on, or take task node"
            )
        if bool((labels.y < 0).any()):
            raise ValueError("task property needs labels from 0 on; shift them, or take their positive part")
        super().__init__(embedding_dim, embedding_dim, labels.num_classes, labels, split)

    def queries(self, src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
        """Returns the queries of the nodes that have labels."""
        return ask_labelled_nodes(src, dst, negatives, labels)

    def loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross entropy of a batch's labels: Float32[].

        Args:
            z: [L, embedding_dim], of each label's node.
            batch: The batch.
        """
        assert batch.y is not None
        return F.cross_entropy(self.logits(z), batch.y)

    def metrics(self, scores: Sequence[Tensor], events: range, groups: EventGroups | None = None) -> PropertyMetrics:
        """Returns the metrics of scored batches.

        Args:
            scores: The logits and labels of each batch in order.
            events: The event ids of all batches.
            groups: Passed over.
        """
        # Imported here, as scikit-learn takes a second to import.
        from sklearn.metrics import ndcg_score

        assert self.labels is not None
        logits, y = together(scores, self.labels.num_classes)
        return PropertyMetrics(float(ndcg_score(y, logits, k=_RANKS)), len(y))

    def columns(self, metrics: Metrics) -> dict[str, str]:
        """Returns the metrics as the columns of a table: by heading, what stands under it."""
        assert isinstance(metrics, PropertyMetrics)
        return {"labels": f"{metrics.num_labels:,}", self.best_label: f"{metrics.ndcg:.4f}"}

    def line(self, metrics: Metrics) -> str:
        """Returns the NDCG."""
        return f"{self.best_label} {self.columns(metrics)[self.best_label]}"
