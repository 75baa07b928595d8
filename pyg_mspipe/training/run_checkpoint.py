"""What the checkpoints of a run hold, and which checkpoints a run refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyg_mspipe.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.features import RunFeatures, check_same_features
from pyg_mspipe.training.metrics_log import LogMark

if TYPE_CHECKING:
    from pyg_mspipe.distributed.executor import Executor, Job


@dataclass
class Progress:
    """How far a run is; a checkpoint holds all of it.

    Attributes:
        epoch: The current epoch, from 0.
        batch: The current epoch's next batch, from 0.
        loss_sum: Sum of the epoch's losses, each times its number of items.
        step: Training steps done in all epochs together.
        best: The best value so far of the metric by which the task chooses the best epoch.
        best_epoch: The epoch with the best value; -1 before the first validation.
        stopped: Whether early stopping ended the run.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    step: int = 0
    best: float = float("-inf")
    best_epoch: int = -1
    stopped: bool = False


# What a run's checkpoint has, and what each is.
_CONTENT: dict[str, type] = {
    **dict.fromkeys(("config", "progress", "source", "features", "names", "log"), dict),
    **dict.fromkeys(("model", "task", "memory", "optimizer"), dict),
    **dict.fromkeys(("stream", "static"), str),
}


def load_run_checkpoint(path: Path) -> dict[str, Any]:
    """Returns the content of a run's ``last.pt`` or ``best.pt``.

    Args:
        path: The file.

    Raises:
        CheckpointError: If there is no such file, or it is not the checkpoint of a run.
    """
    content = load_checkpoint(path)
    try:
        return checked(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def checked(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a run's checkpoint, and refuses what is none.

    Args:
        checkpoint: The result of :func:`load_checkpoint`.

    Raises:
        CheckpointError: If a part is missing, or is of another kind.
    """
    settings = {each.name for each in fields(TrainConfig)}
    wrong = [name for name, kind in _CONTENT.items() if not isinstance(checkpoint.get(name), kind)]
    if not wrong:
        wrong += [f"config.{name}" for name in checkpoint["config"] if name not in settings]
        # The dataclasses' defaults are of the right kinds.
        for part, usual in (("progress", vars(Progress())), ("log", vars(LogMark()))):
            found = checkpoint[part]
            wrong += [f"{part}.{name}" for name in usual if type(found.get(name)) is not type(usual[name])]
            wrong += [f"{part}.{name}" for name in found if name not in usual]
        names = checkpoint["names"]
        wrong += [f"names.{name}" for name in ("model", "task") if not isinstance(names.get(name), str)]
        parts = ("model", "task", "memory")
        wrong += [part for part in parts if not all(isinstance(x, Tensor) for x in checkpoint[part].values())]
        wrong += ["optimizer"] if not {"state", "param_groups"} <= checkpoint["optimizer"].keys() else []
        kept = checkpoint["features"].values()
        if not all(isinstance(each, dict) and {"digest", "path", "skip"} <= each.keys() for each in kept):
            wrong.append("features")
    if wrong:
        raise CheckpointError(
            f"not a run's checkpoint, whose {', '.join(wrong[:3])} are missing or of another kind; give last.pt or "
            f"best.pt as a run of this version wrote it"
        )
    return checkpoint


class RunCheckpoints:
    """Writes and reads a run's checkpoints, and the files beside them that hold single trainers' states.

    Args:
        folder: The run's folder; without one nothing is written.
        config: The run's settings.
        job: What is trained.
        executor: Trains it.
        source: How the stream was loaded.
        stream: Fingerprint of the stream.
        features: The features beside the stream.
    """

    def __init__(
        self,
        folder: Path | None,
        config: TrainConfig,
        job: Job,
        executor: Executor,
        *,
        source: dict[str, Any],
        stream: str,
        features: RunFeatures,
    ) -> None:
        self._folder = folder
        self._config = config
        self._objective = objective = job.objective
        self._optimizer = job.optimizer
        self._world = job.plan.world
        self._executor = executor
        self._names = {"model": objective.model.name, "task": objective.task.name}
        self._features = features
        self._about = {"source": source, "stream": stream, "features": features.kept, "names": self._names}

    def save(
        self, name: str, progress: Progress, memory: dict[str, Tensor], static: str, sync: Callable[[], LogMark]
    ) -> LogMark:
        """Writes a checkpoint, in all processes, and returns the end of the metrics file.

        Args:
            name: The file's name.
            progress: How far the run is.
            memory: The state of the memory at the end of the last training step: tensors by name.
            static: Digest of the static node vectors.
            sync: Writes the metrics to disk and returns the end of their file.
        """
        folder, team = self._folder, self._executor.team
        if folder is None:
            return LogMark()
        log = LogMark()
        with team.together():
            for rank, part in self._executor.parts(progress.batch).items():
                folder.mkdir(parents=True, exist_ok=True)  # on another host it may not exist yet
                save_checkpoint(folder / _rank_file(progress.step, rank), part)
        with team.together():
            if team.leads:
                log = sync()
                content = {
                    "config": asdict(self._config),
                    "static": static,
                    "progress": asdict(progress),
                    "log": asdict(log),
                    "model": self._objective.model.state_dict(),
                    "task": self._objective.task.state_dict(),
                    "memory": memory,
                    "optimizer": self._optimizer.state_dict(),
                }
                save_checkpoint(folder / name, self._about | content | self._executor.random_state())
        if team.leads:
            self._remove_older(folder, progress.step)
        return log

    def check(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint with another stream, other features, another model or task than this run.

        Args:
            checkpoint: The result of :func:`load_checkpoint`.

        Raises:
            CheckpointError: If one of them differs.
        """
        checked(checkpoint)
        for name in self._executor.random_state():
            # On a GPU there is a second state, which a run on the CPU has not.
            if not isinstance(checkpoint.get(name, ""), Tensor | None):
                raise CheckpointError(f"the checkpoint has no {name}, the state of random numbers; give a whole one")
        if checkpoint["stream"] != self._about["stream"]:
            raise CheckpointError(
                "the checkpoint is of another stream than the one given; give the stream that it was trained on"
            )
        check_same_features(checkpoint["features"], self._features)
        for what, name in self._names.items():
            found = checkpoint["names"][what]
            if found != name:
                raise CheckpointError(
                    f"the checkpoint is of {what} {found}, this run has {name}; give the {what} that it was trained "
                    f"with, or train again"
                )

    def load(self, checkpoint: dict[str, Any]) -> Progress:
        """Takes over a checkpoint's weights, memory, optimizer and random state, and returns its progress.

        If the checkpoint has another plan or batch size, its current sweep begins again.

        Args:
            checkpoint: The result of :func:`load_checkpoint`, checked.

        Raises:
            CheckpointError: If a file beside the checkpoint is missing.
        """
        progress = Progress(**checkpoint["progress"])
        parts = {}
        if all(checkpoint["config"][name] == getattr(self._config, name) for name in ("parallel", "batch_size")):
            parts = self._parts(progress.step)
        else:
            progress.batch, progress.loss_sum = 0, 0.0
        self._objective.model.load_state_dict(checkpoint["model"])
        self._objective.task.load_state_dict(checkpoint["task"])
        # In evaluation mode nothing is pending: loaded pending messages would never be applied.
        self._objective.train()
        self._executor.load_memory_state(checkpoint["memory"])
        # Copied, since Adam writes into the tensors that it loads.
        self._optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))
        self._executor.load({name: checkpoint[name] for name in self._executor.random_state()}, parts)
        return progress

    def _parts(self, step: int) -> dict[int, dict[str, Any]]:
        """Returns the states saved beside a checkpoint for this process's trainers, by rank."""
        if self._folder is None:
            return {}
        paths = {rank: self._folder / _rank_file(step, rank) for rank in self._executor.ranks}
        for path in paths.values():
            if not path.exists():
                raise CheckpointError(
                    f"{path} is missing beside the checkpoint; put it there, or resume with another plan, which "
                    f"begins the sweep again without it"
                )
        return {rank: load_checkpoint(path) for rank, path in paths.items()}

    def _remove_older(self, folder: Path, step: int) -> None:
        """Removes the files that earlier checkpoints, of this plan or another, had beside them."""
        ranks = range(self._world if self._world > 1 else 0)
        keep = {_rank_file(step, rank) for rank in ranks}
        for path in folder.glob(_rank_file("*", "*")):
            if path.name not in keep:
                path.unlink(missing_ok=True)


def _rank_file(step: int | str, rank: int | str) -> str:
    return f"last.{step}.rank{rank}.pt"
