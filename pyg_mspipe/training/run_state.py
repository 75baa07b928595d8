"""What a run is made of, and its checkpoints hold."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import check_stream, split_stream, unseen_nodes_mask
from pyg_mspipe.distributed.random_state import random_state
from pyg_mspipe.graph import TemporalCSR
from pyg_mspipe.memory import Mitigation, StaticMemory, make_mitigation, similar_nodes
from pyg_mspipe.memory.similarity import load_or_compute
from pyg_mspipe.models import TGN
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.overlap import parse_overlap
from pyg_mspipe.tasks import LinkPrediction, Objective
from pyg_mspipe.training.checkpoint import CheckpointError, fingerprint, save_checkpoint
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.device import pick_device
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.run_folder import STATIC
from pyg_mspipe.training.run_progress import Progress
from pyg_mspipe.training.sampling import negative_sampler, neighbor_sampler
from pyg_mspipe.training.static_file import find_static, load_static, save_static, static_digest, static_key
from pyg_mspipe.training.static_pretraining import pretrain

if TYPE_CHECKING:
    from typing_extensions import Self


class RunState:
    """Stream, settings, model, optimizer and progress of a run: made anew, or as a checkpoint has them.

    Arguments are those of :class:`~pyg_mspipe.Trainer`.
    """

    takes_plans = False
    """Whether ``config.parallel`` may name more than one trainer."""

    def __init__(
        self,
        data: TemporalData,
        config: TrainConfig | None = None,
        folder: Path | str | None = None,
        *,
        console: Console | None = None,
        source: dict[str, Any] | None = None,
        similar_cache: Path | None = None,
    ) -> None:
        self.config = config = config or TrainConfig()
        if config.parallel != "1x1x1" and not self.takes_plans:
            raise ConfigError(
                f"plan {config.parallel} has several trainers; take DistributedTrainer in processes that torchrun "
                f"starts, or EmulatedTrainer"
            )
        self.folder = None if folder is None else Path(folder)
        self.console = console or Console(quiet=True)
        self.source = source or {}
        self.device = pick_device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)

        data = check_stream(data)
        self.split = split_stream(data, **config.split())
        self.unseen = unseen_nodes_mask(data, self.split)
        self.fingerprint = fingerprint(data)
        self.data = data.to(self.device)
        csr = TemporalCSR.from_stream(self.data)
        self._sampler = neighbor_sampler(config, csr)

        torch.manual_seed(config.seed)
        self.model = TGN(
            csr.num_nodes,
            self.data.msg.size(1),
            memory_dim=config.memory_dim,
            mitigation=self._mitigation(csr.num_nodes, similar_cache),
            memory_device=self._memory_device(),
            **config.attention(),
        )
        self.task = LinkPrediction(self.model.embedding_dim, eval_negatives=config.eval_negatives)
        if config.static_dim:
            # Last, so that the other weights start where they do without it.
            self.model.join_static(
                StaticMemory(csr.num_nodes, config.static_dim, config.memory_dim, dropout=config.static_dropout)
            )
        self.objective = Objective(self.model, self.task, bf16=config.precision == "bf16").to(self.device)
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=config.lr, fused=True)
        self.progress = Progress()
        self._estimates = RunningDurations()
        self._overlap = parse_overlap(config.overlap)
        self._timeline = config.timeline
        self._log_length = 0
        self._static = ""
        # Kept, so that nothing drawn between here and fit changes what the seed decided.
        self._random = random_state(self.device)

    @classmethod
    def resume(
        cls,
        data: TemporalData,
        checkpoint: dict[str, Any],
        folder: Path | str | None,
        *,
        console: Console | None = None,
        similar_cache: Path | None = None,
    ) -> Self:
        """Returns a trainer that goes on where a checkpoint was written.

        Args:
            data: The stream that the checkpoint's run trained on.
            checkpoint: From :func:`load_checkpoint`.
            folder: Of the run.
            console: Where progress is shown; by default nowhere.
            similar_cache: As for the class.

        Raises:
            CheckpointError: If it is another stream.
        """
        config = TrainConfig(**checkpoint["config"])
        trainer = cls(data, config, folder, console=console, source=checkpoint["source"], similar_cache=similar_cache)
        trainer.load(checkpoint)
        return trainer

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Takes over weights, memory, optimizer, random state and progress of a checkpoint.

        Where its batches are others, of another plan for instance, the epoch that was going on begins again.

        Args:
            checkpoint: From :func:`load_checkpoint`.

        Raises:
            CheckpointError: If it is of another stream, or the folder lacks its static node vectors.
        """
        if checkpoint["stream"] != self.fingerprint:
            raise CheckpointError(
                "the checkpoint is of another stream than the one given; give the stream that it was trained on"
            )
        self._load_static(checkpoint["static"])
        self.model.load_weights(checkpoint["model"])
        self.task.load_state_dict(checkpoint["task"])
        # In evaluation mode there are no pending messages; loaded ones would never be applied.
        self.model.train()
        self._load_memory(checkpoint["memory"])
        # Copied, as Adam goes on writing into what it is given.
        self.optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))
        self.progress = Progress(**checkpoint["progress"])
        if not self._has_batches_of(checkpoint):
            self.progress.batch, self.progress.loss_sum = 0, 0.0
        self._log_length = checkpoint["log_length"]
        self._random = {name: checkpoint[name] for name in self._random}

    def _load_memory(self, state: dict[str, Tensor]) -> None:
        self.model.memory.load_memory_state(state)

    def _has_batches_of(self, checkpoint: dict[str, Any]) -> bool:
        """Returns whether a checkpoint's run had the same batches in the same order."""
        return all(checkpoint["config"][name] == getattr(self.config, name) for name in ("parallel", "batch_size"))

    def _load_static(self, digest: str) -> None:
        memory = self.model.static_memory
        if memory is None or digest == self._static:
            return
        if self.folder is None:
            raise CheckpointError(f"the static node vectors are in {STATIC} beside the checkpoint; give that folder")
        memory.load(load_static(self.folder / STATIC, digest))
        self._static = digest

    def _pretrain_static(self) -> None:
        """Trains the static node vectors of a run that begins, or finds them in its folder."""
        memory = self.model.static_memory
        if memory is None or self.progress.step:
            return
        train = self.data[: self.split.train.stop]
        key = static_key(self.fingerprint, train.num_events, self.config)
        path = None if self.folder is None else self.folder / STATIC
        vectors = None if path is None else find_static(path, key)
        if vectors is None:
            vectors = pretrain(train, self.model.memory.num_nodes, self.config, console=self.console)
            if path is not None:
                save_static(path, vectors, key)
        memory.load(vectors)
        self._static = static_digest(vectors)

    def batches(self, part: str, num_negatives: int = 1) -> Batches:
        """Returns the batches of a part of the stream.

        Args:
            part: ``"train"``, ``"val"`` or ``"test"``.
            num_negatives: Negatives for each event.
        """
        config = self.config
        events: range = getattr(self.split, part)
        # Destinations up to the split's end: of later ones nothing is known yet.
        known = self.data.dst[: events.stop]
        use = ("train", "val", "test").index(part)
        negatives = negative_sampler(config, known, self.model.memory.num_nodes, use)
        return Batches(
            self.data,
            events,
            config.batch_size,
            self._sampler,
            negatives,
            num_negatives=num_negatives,
            cut_off=config.cut_off,
        )

    def _memory_device(self) -> str | None:
        """Returns where node memory is kept, if not with the weights."""
        return None

    def _mitigation(self, num_nodes: int, cache: Path | None) -> Mitigation | None:
        """Returns the mitigation that the settings name; what it knows of nodes comes from training events alone."""
        name = self.config.mitigation
        if name == "none":
            return None
        similar = None
        if name in ("similarity", "gated"):
            train = slice(self.split.train.start, self.split.train.stop)
            src, dst = self.data.src[train].cpu(), self.data.dst[train].cpu()
            if cache is None:
                similar = similar_nodes(src, dst, num_nodes)
            else:
                similar = load_or_compute(cache, src, dst, num_nodes, fingerprint=self.fingerprint)
        return make_mitigation(name, num_nodes=num_nodes, memory_dim=self.config.memory_dim, similar=similar)

    def _memory_state(self) -> dict[str, Tensor]:
        """Returns the memory's state for a checkpoint."""
        return self.model.memory.memory_state()

    def _save(self, name: str, memory: dict[str, Tensor], log: MetricsLog) -> None:
        if self.folder is None:
            return
        self._log_length = log.sync()
        save_checkpoint(self.folder / name, self._content(memory) | random_state(self.device))

    def _content(self, memory: dict[str, Tensor]) -> dict[str, Any]:
        """Returns what a checkpoint holds, but for the random state."""
        return {
            "config": asdict(self.config),
            "source": self.source,
            "stream": self.fingerprint,
            "static": self._static,
            "progress": asdict(self.progress),
            "log_length": self._log_length,
            "model": self.model.weights(),
            "task": self.task.state_dict(),
            "memory": memory,
            "optimizer": self.optimizer.state_dict(),
        }
