"""Use of a trained run: embeddings of nodes, scores of pairs, and more training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import FeatureStore, Labels
from pyg_mspipe.distributed import EmulatedExecutor
from pyg_mspipe.tasks.evaluation import score_batches
from pyg_mspipe.training.making import MakeModel, MakeTask
from pyg_mspipe.training.run_checkpoint import Progress, load_run_checkpoint
from pyg_mspipe.training.run_folder import BEST, LAST
from pyg_mspipe.training.single import SingleExecutor
from pyg_mspipe.training.source import open_stream
from pyg_mspipe.training.trainer import Trainer

_AT_ONCE = 10_000


def load_run(
    folder: Path | str,
    *,
    data: TemporalData | None = None,
    t: int | None = None,
    model: MakeModel | None = None,
    task: MakeTask | None = None,
    features: FeatureStore | None = None,
    node_features: FeatureStore | None = None,
    labels: Labels | None = None,
) -> Run:
    """Returns the best model of a run, with its memory brought to the end of its stream.

    Args:
        folder: The run's folder.
        data: The stream that the run was trained on; by default loaded as the run loaded it.
        t: The moment to bring the memory to, in the stream's unit: only events before it are seen. It must not lie
            before the last training event.
        model: Makes the run's model, if its settings do not name it.
        task: Makes the run's task, if its settings do not name it.
        features: The run's event features, if it had any; by default read from their file.
        node_features: The run's node features, if it had any; by default read from their file.
        labels: The run's labels, if they were given from Python.

    Raises:
        CheckpointError: If there is no such run, or it has another stream, features, model or task.
        ValueError: If ``t`` lies before the last training event.

    Example:
        >>> import tempfile, torch
        >>> from pyg_mspipe import TrainConfig, Trainer, load_run, synthetic
        >>> data = synthetic(500)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     progress = Trainer(data, TrainConfig(epochs=1), folder).fit()
        ...     run = load_run(folder, data=data)
        >>> run.embed(torch.tensor([3, 7])).shape, run.score(data.src[-2:], data.dst[-2:]).shape
        (torch.Size([2, 100]), torch.Size([2]))
    """
    checkpoint = load_run_checkpoint(Path(folder) / BEST)
    checkpoint["config"]["parallel"] = "1x1x1"
    if data is None:
        data = open_stream(checkpoint["source"])
    made_by: dict[str, Any] = {"model": model, "task": task, "labels": labels}
    made_by |= {"features": features, "node_features": node_features}
    trainer = Trainer.resume(data, checkpoint, folder, **made_by)
    return Run(trainer, Path(folder), t=t, made_by=made_by)


class Run:
    """A trained model and its memory at one moment; see :func:`load_run`.

    Args:
        trainer: The run's trainer, with the memory at the end of the training events.
        folder: The run's folder.
        t: The moment to bring the memory to; by default after the last event.
        made_by: The arguments of :func:`load_run` for model, task, features and labels.

    Attributes:
        trainer: Holds model, task, stream and settings.
    """

    def __init__(self, trainer: Trainer, folder: Path, *, t: int | None, made_by: dict[str, Any]) -> None:
        self.trainer = trainer
        self._folder = folder
        self._made_by = made_by
        self._t = t
        self._batches = trainer.batches("test")
        split, self._bound = trainer.split, trainer.data.num_events
        if t is not None:
            moment = torch.tensor([t])
            self._bound = int(self._batches.sampler.csr.first_event_at(moment))
        if self._bound < split.train.stop:
            last = int(trainer.data.t[split.train.stop - 1])
            raise ValueError(f"t={t} lies before the last training event, which is at {last}; give a later one")
        for part in ("val", "test"):
            batches = trainer.batches(part)
            batches.events = range(batches.events.start, min(batches.events.stop, self._bound))
            score_batches(trainer.objective, batches, range(0))

    @torch.no_grad()
    def embed(self, n_id: Tensor) -> Tensor:
        """Returns the embedding of nodes at the run's moment: Float32[n, embedding_dim], on the model's device.

        Args:
            n_id: Int64[n], in any order; a node may occur several times.
        """
        objective = self.trainer.objective
        parts = [
            objective.embed(self._batches.ask(part, self._bound, self._t)).float()
            for part in n_id.cpu().split(_AT_ONCE)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def score(self, src: Tensor, dst: Tensor) -> Tensor:
        """Returns the task's score of pairs of nodes: Float32[n]; the larger, the likelier they meet next.

        The scores rank pairs; they are not probabilities.

        Args:
            src: Int64[n], or Int64[1] if all pairs have one source.
            dst: Int64[n].

        Raises:
            ValueError: If the task does not score pairs.
        """
        objective, task = self.trainer.objective, self.trainer.task
        if not (task.pair_features or task.common_neighbors):
            return task.score_pairs(self.embed(src), self.embed(dst))
        pairs = (each.cpu().split(_AT_ONCE) for each in torch.broadcast_tensors(src, dst))
        return torch.cat(
            [
                objective.score_pairs(self._batches.ask(part, self._bound, self._t, dst=other)).float()
                for part, other in zip(*pairs, strict=True)
            ]
        )

    def resume(self, *, epochs: int | None = None) -> Progress:
        """Resumes the run from its last checkpoint, in this process, and returns its progress.

        This object keeps its model; call :func:`load_run` again for the model of more epochs.

        Args:
            epochs: How many epochs to train in all; by default as many as were planned.
        """
        checkpoint = load_run_checkpoint(self._folder / LAST)
        if epochs is not None:
            checkpoint["config"]["epochs"] = epochs
            checkpoint["progress"]["stopped"] = False
        alone = checkpoint["config"]["parallel"] == "1x1x1"
        executor = SingleExecutor() if alone else EmulatedExecutor()
        return Trainer.resume(self.trainer.data, checkpoint, self._folder, executor=executor, **self._made_by).fit()
