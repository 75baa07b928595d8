"""What a task is to everything that trains it: a loss for training, and scores and metrics for evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor
from torch.nn import Module

from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.queries import Queries, ask_pairs


@dataclass(frozen=True)
class Metrics:
    """How well a task is done on a range of events: the base of each task's own metrics, plain values alone."""


class Task(Module, ABC):
    """What a model is trained for: it turns embeddings into a loss, and into scores that metrics are made of.

    The layers between embeddings and loss, the head, are modules of the task. A trainer calls a subclass's constructor
    with the width of the embeddings, and those settings of the run that it names as keywords.

    Attributes:
        best: The metric by which the best epoch is chosen, a field of the metrics; larger is better.
        best_label: The name of that metric in what people read.
        chance: The value of that metric for scores at random; none where it has no such value.
        negatives: Negatives that are drawn for each event in training; 0 draws none.
        eval_negatives: Negatives that are drawn for each event in evaluation; 0 draws none.
        labels: The labels that batches bring, if any; a constructor that names ``labels`` gets those of the run.
        own_moments: Whether labels may have moments of their own, and need not be those of events.
        embeds_once: Whether its :meth:`scores` want equal queries embedded once: ``z`` then has a row for each distinct
            one, and ``batch.asked``, Int64[A], says which row answers each that was asked for.
        pair_features: Whether its :meth:`loss` and :meth:`scores` read features of pairs, ``batch.pairs.features``.
        common_neighbors: Whether they read the common neighbours of pairs, ``batch.pairs.common``, and what the model
            knows of nodes, ``batch.node_rows``.
        score_dim: The dimension of its scores along which those of parts of a batch are put together.
        cuts_at_labels: Whether a batch begins wherever labels stand, so that all events before them are applied.
    """

    best: str
    best_label: str
    chance: float | None = None
    negatives: int = 1
    eval_negatives: int = 1
    labels: Labels | None = None
    pair_features: bool = False
    common_neighbors: bool = False
    own_moments: ClassVar[bool] = True
    embeds_once: ClassVar[bool] = False
    score_dim: ClassVar[int] = 0
    cuts_at_labels: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The task's name in checkpoints: its class's."""
        return type(self).__name__

    def queries(self, src: Tensor, dst: Tensor, negatives: Negatives, labels: Labels | None = None) -> Queries:
        """Returns which nodes are to be embedded for a batch: by default sources, destinations and negatives.

        Args:
            src: Int64[B], of the batch's events.
            dst: Int64[B].
            negatives: Of each event.
            labels: The labels that are asked for at the events, which are positions in the batch; if the task has any.
        """
        return ask_pairs(src, dst, negatives, labels)

    @abstractmethod
    def loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns the mean loss of a batch's items: Float32[]. Not called where there are none.

        Args:
            z: [Q, embedding_dim], the embeddings of the batch's queries.
            batch: The batch.
        """

    def count(self, events: range) -> int:
        """Returns how many items the loss of a batch is a mean over: by default its events.

        Args:
            events: The event ids of the batch.
        """
        return len(events)

    @abstractmethod
    def scores(self, z: Tensor, batch: Batch) -> Tensor:
        """Returns what the metrics need to know of a batch: [...], on any device.

        Args:
            z: [Q, embedding_dim], the embeddings of the batch's queries.
            batch: The batch.
        """

    @abstractmethod
    def metrics(self, scores: Sequence[Tensor], events: range, groups: EventGroups | None = None) -> Metrics:
        """Returns the metrics of scored batches.

        Args:
            scores: What :meth:`scores` gave for each batch, [...], in order and on the CPU.
            events: The event ids of all batches.
            groups: The groups of the stream's events, that metrics may be told apart by; a task may pass it over.
        """

    def score_pairs(self, z_src: Tensor, z_dst: Tensor, batch: Batch | None = None) -> Tensor:
        """Returns a score for each pair of nodes: [...]; the larger, the likelier they meet next.

        Args:
            z_src: [..., embedding_dim].
            z_dst: [..., embedding_dim].
            batch: What :meth:`Batches.ask` gives for ``n`` pairs; needed where the task reads more of pairs.

        Raises:
            ValueError: If the task knows no such score, or needs a batch.
        """
        raise ValueError(f"task {self.name} scores no pairs of nodes; take the embeddings")

    def columns(self, metrics: Metrics) -> dict[str, str]:
        """Returns the metrics as the columns of a table: by heading, what stands under it.

        Args:
            metrics: What :meth:`metrics` gave.
        """
        values = {field.name: getattr(metrics, field.name) for field in fields(metrics)}
        return {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in values.items()}

    def group_columns(self, metrics: Metrics) -> dict[str, dict[str, str]]:
        """Returns the metrics of groups of events as the columns of a table, by the group's name; by default none.

        Args:
            metrics: What :meth:`metrics` gave.
        """
        return {}

    def line(self, metrics: Metrics) -> str:
        """Returns the metrics in short, for the line of an epoch.

        Args:
            metrics: What :meth:`metrics` gave.
        """
        return "  ".join(f"{name} {value}" for name, value in self.columns(metrics).items())
