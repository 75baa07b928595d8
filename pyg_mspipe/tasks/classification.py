"""Classification of nodes and of events by labels: binary, of many classes, or of several classes at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mspipe._choices import ClassWeights
from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.data.splits import StreamSplit
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.queries import Queries, ask_labelled_events, ask_labelled_nodes
from pyg_mspipe.tasks.labelled import LabelledTask, needed_labels, together
from pyg_mspipe.tasks.task import Metrics


@dataclass(frozen=True)
class ClassMetrics(Metrics):
    """How well labels are told.

    Attributes:
        auc: Area under the ROC curve; of two classes alone.
        ap: Average precision; of two classes, or of several at once, where all pairs of label and class count alike.
        f1_micro: F1 over all labels together, which for one class of many is the accuracy; not of two classes.
        f1_macro: Mean of the classes' F1; not of two classes.
        majority: ``f1_micro`` of the commonest class of training, for all; of many classes alone.
        num_labels: Labels evaluated.
    """

    auc: float | None
    ap: float | None
    f1_micro: float | None
    f1_macro: float | None
    majority: float | None
    num_labels: int


class Classification(LabelledTask):
    """Tells the classes of labels; the base of :class:`NodeClassification` and :class:`EdgeClassification`.

    Two classes have one logit, trained with the binary cross entropy; of more classes each has one, trained with the
    cross entropy; of several at once each has one, trained with the binary cross entropy of each.

    Args:
        embedding_dim: Width of the embeddings.
        labels: The labels.
        split: The parts of the stream.
        class_weights: How much a label weighs in the loss.

    Attributes:
        ends: How many embeddings a label has.
        kind: ``"binary"``, ``"classes"`` or ``"several"``.
    """

    ends = 1
    weight: Tensor | None

    def __init__(
        self,
        embedding_dim: int,
        *,
        labels: Labels | None,
        split: StreamSplit,
        class_weights: ClassWeights = "none",
    ) -> None:
        labels = needed_labels(labels, type(self).__name__)
        several = labels.y.dim() == 2
        kind = "several" if several else "binary" if labels.num_classes == 2 else "classes"
        out = 1 if kind == "binary" else labels.num_classes
        super().__init__(self.ends * embedding_dim, embedding_dim, out, labels, split)
        self.kind, self.out = kind, out
        y = labels.y[labels.rows(split.train)]
        if several and bool(((labels.y != 0) & (labels.y != 1)).any()):
            raise ValueError("labels of several classes at once are 0 or 1; for other numbers take task property")
        if self.kind == "binary":
            self.best, self.best_label, self.chance = "auc", "AUC", 0.5
            for part, events in (("training", split.train), ("validation", split.val), ("test", split.test)):
                found = labels.y[labels.rows(events)].unique()
                if found.numel() < 2:
                    raise ValueError(f"all labels of the {part} events are {int(found)}; change the split")
        elif several:
            self.best, self.best_label = "ap", "AP"
        else:
            self.best, self.best_label = "f1_micro", "F1"
        count = y.sum(dim=0) if several else torch.bincount(y, minlength=labels.num_classes).float()
        self.majority = int(count.argmax())
        weight: Tensor | None = None
        if class_weights == "balanced":
            rare = count.clamp(min=1)
            if self.kind == "binary":
                weight = rare[:1] / rare[1:]
            elif several:
                weight = (len(y) - rare).clamp(min=1) / rare
            else:
                weight = len(y) / (len(count) * rare)
        self.register_buffer("weight", weight, persistent=False)

    def loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross entropy of a batch's labels, zero where it has none: Float32[].

        Args:
            z: [Q, embedding_dim], of each label's nodes.
            batch: The batch.
        """
        logits, y, weight = self.logits(self.read(z)), batch.y, self.weight
        assert y is not None
        if self.kind == "classes":
            each = F.cross_entropy(logits, y, reduction="none")
            # Not cross_entropy's own weighted mean, which over the parts of a batch is not the batch's.
            return (each if weight is None else each * weight.index_select(0, y)).mean()
        return F.binary_cross_entropy_with_logits(logits, y.view_as(logits).float(), pos_weight=weight)

    def metrics(self, scores: Sequence[Tensor], events: range, groups: EventGroups | None = None) -> ClassMetrics:
        """Returns the metrics of scored batches.

        Args:
            scores: The logits and labels of each batch in order.
            events: The event ids of all batches.
            groups: Passed over.
        """
        # Imported here, as scikit-learn takes a second to import.
        from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

        logits, y = together(scores, self.out)
        if self.kind == "binary":
            y, logits = y.view(-1), logits.view(-1)
            auc = float(roc_auc_score(y, logits))
            return ClassMetrics(auc, float(average_precision_score(y, logits)), None, None, None, len(y))
        ap: float | None = None
        majority: float | None = None
        if self.kind == "several":
            told = (logits > 0).int()
            ap = float(average_precision_score(y, logits, average="micro"))
        else:
            y, told = y.view(-1), logits.argmax(dim=1)
            majority = float((y == self.majority).float().mean())
        micro, macro = (float(f1_score(y, told, average=how, zero_division=0.0)) for how in ("micro", "macro"))
        return ClassMetrics(None, ap, micro, macro, majority, len(y))

    def columns(self, metrics: Metrics) -> dict[str, str]:
        """Returns the metrics as the columns of a table: by heading, what stands under it."""
        assert isinstance(metrics, ClassMetrics)
        headings = {
            "auc": "AUC",
            "ap": "AP",
            "f1_micro": "F1",
            "f1_macro": "F1, mean",
            "majority": "majority",
        }
        found = {heading: getattr(metrics, name) for name, heading in headings.items()}
        return {"labels": f"{metrics.num_labels:,}"} | {
            heading: f"{value:.4f}" for heading, value in found.items() if value is not None
        }

    def line(self, metrics: Metrics) -> str:
        """Returns the metrics but for the number of labels."""
        return "  ".join(f"{name} {value}" for name, value in list(self.columns(metrics).items())[1:])


class NodeClassification(Classification):
    """Tells the labels of nodes, each from the embedding of its node as of its moment.

    Args:
        embedding_dim: Width of the embeddings.
        labels: The labels: those that events carry for their sources, or some with moments of their own.
        split: The parts of the stream.
        class_weights: How much a label weighs in the loss.

    Raises:
        ValueError: If there are no labels in a part of the stream, or all of it are of one class.
    """

    def queries(self, src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
        """Returns the queries of the nodes that have labels."""
        return ask_labelled_nodes(src, dst, negatives, labels)


class EdgeClassification(Classification):
    """Tells the labels of events, each from the embeddings of its event's ends as of before the event.

    Args:
        embedding_dim: Width of the embeddings.
        labels: The labels that events carry.
        split: The parts of the stream.
        class_weights: How much a label weighs in the loss.

    Raises:
        ValueError: If there are no labels in a part of the stream, or all of it are of one class.
    """

    own_moments = False
    ends = 2

    def queries(self, src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
        """Returns the queries of both ends of the events that have labels."""
        return ask_labelled_events(src, dst, negatives, labels)

    def read(self, z: Tensor) -> Tensor:
        """Returns the embeddings of both ends side by side: [L, 2 * embedding_dim]."""
        return torch.cat(z.chunk(2), dim=1)
