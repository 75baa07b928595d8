"""The batches of the parts of a run's stream: training, validation and test."""

from __future__ import annotations

import torch
from torch_geometric.data import TemporalData

from pyg_mspipe.data import DrawNegatives, StreamSplit, TensorFeatures
from pyg_mspipe.data.stream_folder import folder_of
from pyg_mspipe.graph import TemporalCSR
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.padding import with_sums
from pyg_mspipe.tasks import Objective
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.eval_negatives import EvalNegatives
from pyg_mspipe.training.features import RunFeatures
from pyg_mspipe.training.sampling import negative_sampler, neighbor_sampler, pair_reader

PARTS = ("train", "val", "test")


class PartBatches:
    """Makes the batches of a run's parts.

    Args:
        config: The run's settings.
        data: The stream.
        csr: Its history.
        split: Its parts.
        objective: Model and task.
        features: The features beside the stream.
        device: Where batches are brought to; messages in memory are kept there.
        negatives: Gives the negatives of training, instead of what the settings say.
        eval_negatives: Gives those of evaluation.

    Attributes:
        eval_seed: The seed of evaluation's negatives, by default the run's.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TemporalData,
        csr: TemporalCSR,
        split: StreamSplit,
        objective: Objective,
        features: RunFeatures,
        *,
        device: torch.device,
        negatives: DrawNegatives | None = None,
        eval_negatives: DrawNegatives | EvalNegatives,
    ) -> None:
        self.config = config
        self.data = data
        self.csr = csr
        self.split = split
        self.model, self.task = objective.model, objective.task
        self.features = features
        self.device = device
        folder = folder_of(data, messages=True)
        own = TensorFeatures(data.msg.to(device)) if folder is None else folder.messages(device)
        self._msg = features.events or own
        self._own_negatives = negatives
        self._eval_negatives = eval_negatives
        self.eval_seed = config.seed
        self._instead: dict[str, DrawNegatives] = {}
        # What batches bring; a task may leave the run's labels.
        self._labels = None if self.task.labels is None else self.task.labels.to(data.src.device)
        self._sampler = neighbor_sampler(config, csr, self.model.num_hops)
        self._pairs = pair_reader(config, self.task, csr, data, split.train)

    def __call__(self, part: str, *, evaluation: bool = False) -> Batches:
        """Returns the batches of a part.

        Args:
            part: ``"train"``, ``"val"`` or ``"test"``.
            evaluation: Whether with the negatives of evaluation, rather than of training, and equal queries once.
        """
        model, task = self.model, self.task
        learns_on_gpu = self.device.type == "cuda" and not evaluation
        return Batches(
            self.data,
            getattr(self.split, part),
            self.config.batch_size,
            self._sampler,
            self._negatives(part, evaluation),
            ask=task.queries,
            labels=self._labels,
            cut_at_labels=task.cuts_at_labels,
            embed_once=evaluation and task.embeds_once,
            pairs=self._pairs,
            reads_moment=model.reads_moment,
            with_ends=model.embeds_ends,
            cut_off=self.config.cut_off,
            msg=self._msg,
            node_features=self.features.nodes,
            device=self.device,
            memory_begin=self.split.train.start,
            make_plan=None if model.memory is None else model.memory.make_plan,
            finish=with_sums if learns_on_gpu else None,
        )

    def rank_among(self, part: str, negatives: DrawNegatives) -> None:
        """Ranks the events of a part among negatives other than the run's from now on.

        Args:
            part: ``"val"`` or ``"test"``.
            negatives: Gives the negatives.
        """
        self._instead[part] = negatives

    def _negatives(self, part: str, evaluation: bool) -> DrawNegatives | None:
        num = self.task.eval_negatives if evaluation else self.task.negatives
        if not num:
            return None
        if evaluation and part in self._instead:
            return self._instead[part]
        if evaluation:
            given = self._eval_negatives
            return given.of(part, num, self.eval_seed) if isinstance(given, EvalNegatives) else given
        if self._own_negatives is not None:
            return self._own_negatives
        # Only events up to the part's end: later ones are not known yet.
        stop = getattr(self.split, part).stop
        return negative_sampler(self.config, self.data, stop, self.csr.num_nodes, PARTS.index(part), num)
