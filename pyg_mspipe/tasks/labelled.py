"""Tasks on labels: what they share, whatever is made of the embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.nn import MLP

from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.splits import StreamSplit
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.tasks.task import Task


class LabelledTask(Task):
    """A task whose items are labels: logits for each, from a perceptron with one hidden layer.

    A subclass says which nodes are embedded, and makes loss and metrics of logits and labels.

    Args:
        width: Width of what the perceptron reads.
        hidden: Width of its hidden layer.
        out: How many logits a label gets.
        labels: The labels.
        split: The parts of the stream, each of which must have some.

    Raises:
        ValueError: If there are no labels, or none in a part of the stream.
    """

    negatives = 0
    eval_negatives = 0

    def __init__(self, width: int, hidden: int, out: int, labels: Labels, split: StreamSplit) -> None:
        super().__init__()
        for part, events in (("training", split.train), ("validation", split.val), ("test", split.test)):
            if not labels.count(events):
                raise ValueError(
                    f"no label is asked for at the {part} events; change the split, or give labels for their times"
                )
        self.labels = labels
        self.head = MLP([width, hidden, out], norm=None)

    def count(self, events: range) -> int:
        """Returns how many labels are asked for at the events of a batch.

        Args:
            events: The event ids.
        """
        assert self.labels is not None
        return self.labels.count(events)

    def logits(self, z: Tensor) -> Tensor:
        """Returns the logits of labels: Float32[L, out].

        Args:
            z: [L, width].
        """
        out: Tensor = self.head(z)
        return out.float()

    def scores(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns logits and, beside them, labels: Float32[L, out + 1], or Float32[L, out + C] of many for each.

        Args:
            z: [Q, embedding_dim].
            batch: The batch.
        """
        assert batch.y is not None
        return torch.cat([self.logits(self.read(z)), batch.y.view(batch.y.size(0), -1).float()], dim=1)

    def read(self, z: Tensor) -> Tensor:
        """Returns what the perceptron reads: [L, width]; by default the embeddings, of which there is one a label.

        Args:
            z: [Q, embedding_dim].
        """
        return z


def needed_labels(labels: Labels | None, task: str) -> Labels:
    """Returns the labels of a task that cannot do without.

    Args:
        labels: The labels, if there are any.
        task: The task's name, for the message.

    Raises:
        ValueError: If there are none.
    """
    if labels is None or not len(labels):
        raise ValueError(
            f"task {task} needs labels and the stream has none; name their column with --label, or give a file of "
            f"labels with --labels"
        )
    return labels


def together(scores: Sequence[Tensor], out: int) -> tuple[Tensor, Tensor]:
    """Returns the logits and the labels of scored batches: [L, out] and [L, C].

    Args:
        scores: What :meth:`LabelledTask.scores` gave for each.
        out: How many logits a label has.
    """
    both = torch.cat(list(scores))
    return both[:, :out], both[:, out:]
