"""The trainer: training of a model on a task, which may be interrupted and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import DrawNegatives, FeatureStore, Labels
from pyg_mspipe.data.temporal_data import on_host
from pyg_mspipe.distributed.executor import Executor
from pyg_mspipe.graph import TemporalCSR
from pyg_mspipe.pipeline import BatchRecord
from pyg_mspipe.tasks import Metrics, OnBatch, OnScores, evaluate
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.device import pick_device
from pyg_mspipe.training.embedder import load_embedder, with_embedder
from pyg_mspipe.training.eval_negatives import EvalNegatives
from pyg_mspipe.training.events import Listener, RunBegun, Saved, StagesDone
from pyg_mspipe.training.features import RunFeatures, features_again
from pyg_mspipe.training.interrupt import interruptible
from pyg_mspipe.training.listening import Listening
from pyg_mspipe.training.loop import TrainingLoop
from pyg_mspipe.training.making import (
    MakeModel,
    MakeTask,
    learning_rate,
    make_job,
    make_objective,
    make_task,
    mitigation_of,
)
from pyg_mspipe.training.metrics_log import LogMark
from pyg_mspipe.training.part_batches import PartBatches
from pyg_mspipe.training.run_checkpoint import Progress, RunCheckpoints, checked
from pyg_mspipe.training.run_data import run_data
from pyg_mspipe.training.run_folder import own_folder
from pyg_mspipe.training.single import SingleExecutor
from pyg_mspipe.training.static_file import StaticVectors, static_key
from pyg_mspipe.training.static_pretraining import pretrain


class Trainer:
    """Trains a model on a task.

    A pipeline prepares batches during training, and ``config.staleness`` says how far memory may lag behind. With
    ``"exact"`` and ``"sequential"`` the seed decides every number; with the other modes the timing does too. With
    ``config.parallel`` several trainers train together, and the executor is one of them or emulates all. A step's loss
    is the mean over all items trained in it; ``config.lr_scaling`` scales the learning rate.

    The run's folder gets ``last.pt``, from which the run resumes bit for bit; ``best.pt``, the model of the best
    validation, with the memory at the end of the training events; ``metrics.jsonl``; and ``static.pt``, the vectors of
    static node memory, if there are any.

    Args:
        data: The stream; the trainer checks it.
        config: All settings.
        folder: The run's folder, made if it is missing. Without one nothing but a timeline is written.
        model: A model's class or a function that makes one, instead of ``config.model``; see :class:`TemporalModel`.
        task: A task's class or a function that makes one, instead of ``config.task``; see :class:`Task`.
        features: Event features, one row for each event, instead of the stream's messages.
        node_features: Node features, one row for each node; the model must take their width, ``node_dim``.
        negatives: Gives negatives of your own in training, see :class:`~pyg_mspipe.data.DrawNegatives`; by default they
            are drawn as the settings say. A resumed run needs them again.
        eval_negatives: Gives those of evaluation.
        labels: Labels for a task on such, instead of those that ``config.labels`` or else the stream has.
        executor: Takes the steps; by default this process takes them alone.
        listeners: Called with each event, see :mod:`pyg_mspipe.training.events`.
        console: Where progress is shown; by default nowhere.
        source: How the stream was loaded, as plain values, which checkpoints keep for a resumed run.
        similar_cache: The file that keeps similar nodes for the next run, if the mitigation needs them.

    Attributes:
        batches: Makes the batches of a part, ``trainer.batches("val", evaluation=True)``.

    Raises:
        StreamError: If the stream cannot be used, a split has no events, or features do not fit its events or nodes.
        ConfigError: If the device, the model or the task does not exist.
        PlanError: If the executor cannot take the plan.
        DisagreementError: If processes were given different streams or settings.
    """

    def __init__(
        self,
        data: TemporalData,
        config: TrainConfig | None = None,
        folder: Path | str | None = None,
        *,
        model: MakeModel | None = None,
        task: MakeTask | None = None,
        features: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
        negatives: DrawNegatives | None = None,
        eval_negatives: DrawNegatives | None = None,
        labels: Labels | None = None,
        executor: Executor | None = None,
        listeners: Sequence[Listener] = (),
        console: Console | None = None,
        source: dict[str, Any] | None = None,
        similar_cache: Path | None = None,
    ) -> None:
        self.config, self.executor = with_embedder(config or TrainConfig()), executor or SingleExecutor()
        config, executor = self.config, self.executor
        self.listeners = list(listeners)
        self.folder = None if folder is None else Path(folder)
        self.console = console if console is not None and executor.team.leads else Console(quiet=True)
        self.source = source or {}
        self.plan = config.plan
        self.device = pick_device(config.device)
        if config.timeline and not executor.timeline:
            raise ConfigError("an emulated run has no pipeline to draw; leave out timeline")
        if config.threads:
            torch.set_num_threads(config.threads)

        self.features = beside = RunFeatures(features, node_features)
        read = run_data(data, config, beside, labels, task=task, source=self.source)
        self.split, self.groups, self.fingerprint = read.split, read.groups, read.fingerprint
        settings = {name: value for name, value in vars(config).items() if name != "device"}
        executor.team.agree({"stream": self.fingerprint, "torch": torch.__version__} | beside.digests | settings)
        self.data = on_host(read.stream)
        csr = TemporalCSR.from_stream(self.data)
        self.num_nodes = csr.num_nodes
        train = self.data[: self.split.train.stop]
        torch.manual_seed(config.seed)
        mitigation = mitigation_of(config, train, self.num_nodes, stream=self.fingerprint, cache=similar_cache)
        self.objective = make_objective(
            config,
            self.num_nodes,
            beside.msg_dim(self.data),
            train=train,
            labels=read.labels,
            split=self.split,
            node_dim=beside.node_dim,
            model=model,
            task=task,
            mitigation=mitigation,
            memory_device=executor.memory_device(self.plan),
        ).to(self.device)
        self.model, self.task = self.objective.model, self.objective.task
        learned = [x for x in self.objective.parameters() if x.requires_grad]
        self.optimizer = torch.optim.Adam(learned, lr=learning_rate(config), fused=True)
        self._set_optimizer()
        evaluated = eval_negatives or EvalNegatives(
            config, read.stream, self.split, self.num_nodes, source=self.source, folder=self.folder
        )
        parts = config, self.data, csr, self.split, self.objective, beside
        self.batches = PartBatches(*parts, device=self.device, negatives=negatives, eval_negatives=evaluated)
        batches = self.batches("train"), self.batches("val", evaluation=True)
        self._job = make_job(config, self.objective, self.optimizer, *batches, self.groups, self._on_record)
        executor.prepare(self._job)
        self.progress = Progress()
        self._checkpoints = RunCheckpoints(
            self.folder, config, self._job, executor, source=self.source, stream=self.fingerprint, features=beside
        )
        self._static = StaticVectors(self.model.static_memory, self.folder, executor.team)
        self._make_task = partial(make_task, config, task=task, labels=read.labels, split=self.split)
        self._log = LogMark()

    @classmethod
    def resume(
        cls, data: TemporalData, checkpoint: dict[str, Any], folder: Path | str | None, **options: Any
    ) -> Trainer:
        """Returns a trainer that continues from a checkpoint.

        Args:
            data: The stream that the checkpoint's run trained on.
            checkpoint: The result of :func:`load_checkpoint`.
            folder: The run's folder.
            **options: More arguments of the class: ``model``, ``task``, ``negatives``, ``eval_negatives``,
                ``executor``, ``listeners``, ``console``, ``similar_cache``, and ``features`` and
                ``node_features``, by default read from the run's files.

        Raises:
            CheckpointError: If it has another stream, features, model or task.
        """
        config = TrainConfig(**checked(checkpoint)["config"])
        options |= features_again(checkpoint["features"], config, options)
        trainer = cls(data, config, folder, source=checkpoint["source"], **options)
        trainer.load(checkpoint)
        return trainer

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Takes over a checkpoint's weights, memory, optimizer, random state and progress.

        With the checkpoint's plan and batch size the run continues bit for bit. With others its current sweep begins
        again, and memory groups other than the first begin with empty memory.

        Args:
            checkpoint: The result of :func:`load_checkpoint`.

        Raises:
            CheckpointError: If it has another stream, model or task, or the folder lacks a file that belongs to it.
        """
        self._checkpoints.check(checkpoint)
        self._static.load(checkpoint["static"])
        self.progress = self._checkpoints.load(checkpoint)
        self._log = LogMark(**checkpoint["log"])
        self._set_optimizer()

    def evaluate(self, part: str, on_batch: OnBatch | None = None, on_scores: OnScores | None = None) -> Metrics:
        """Returns the task's metrics on ``"val"`` or ``"test"``, and moves the memory to the end of that part.

        The memory must be at the end of the part before, so call this once for each part, in order, as :meth:`test`
        does.

        Args:
            part: ``"val"`` or ``"test"``.
            on_batch: Called with the number of events of each batch done.
            on_scores: Called with the part's event ids and the scores of its batches.
        """
        batches = self.batches(part, evaluation=True)
        return evaluate(
            self.objective,
            batches,
            groups=self.groups,
            on_batch=on_batch,
            on_scores=on_scores,
            overlap=self._job.overlap,
            prefetch=self._job.prefetch,
        )

    def test(self, checkpoint: dict[str, Any], on_scores: OnScores | None = None) -> dict[str, Metrics]:
        """Returns the metrics of a checkpoint's model, such as ``best.pt``, on ``"val"`` and then ``"test"``.

        Args:
            checkpoint: The result of :func:`load_checkpoint`, written at the end of an epoch's training events.
            on_scores: Called with the event ids and the scores of each part.

        Raises:
            CheckpointError: If it has another stream, model or task.
        """
        self.load(checkpoint)
        return {part: self.evaluate(part, on_scores=on_scores) for part in ("val", "test")}

    def fit(self, *, replace: bool = False) -> Progress:
        """Trains until the last epoch or until early stopping, and returns the progress.

        Args:
            replace: Whether a new run may remove the folder's old run.

        Raises:
            ConfigError: If the folder has a run already, or another process is training in it.
            Interrupted: After Ctrl-C or SIGTERM in any process, once the state is saved.
            DivergedError: If the loss or a score is no longer a finite number.
            TrainerLostError: If another process is gone.
        """
        config, progress, team = self.config, self.progress, self.executor.team
        if progress.step == 0:
            load_embedder(config, self.model, self.features)
        with team.watched(), ExitStack() as stack:
            with team.together():
                if self.folder is not None and team.leads:
                    stack.enter_context(own_folder(self.folder, fresh=progress.step == 0, replace=replace))
            if progress.step == 0:
                self._pretrain_static()
            request = stack.enter_context(interruptible())
            folder = self.folder if team.leads else None
            told = self.listeners, config, self.task, team, folder, self.console
            with team.together():
                listening = Listening(*told, self._log, progress.step)
            self._listening = stack.enter_context(listening)
            if progress.step == 0:
                self._listening(RunBegun(config, self.source, self.fingerprint))
            TrainingLoop(config, self._job, self.executor, progress, request, self._listening, self._save).run()
        return progress

    def _set_optimizer(self) -> None:
        """Gives the optimizer what a checkpoint of another plan or device must not change."""
        self.optimizer.param_groups[0].update(lr=learning_rate(self.config), capturable=False)

    def _pretrain_static(self) -> None:
        """Finds the static node vectors in the run's folder or trains them, if the model has any."""
        config, features, train = self.config, self.features, self.data[: self.split.train.stop]
        key = static_key(self.fingerprint, train.num_events, config)
        key |= {"task": self.task.name, "features": features.digests}
        train_on = partial(pretrain, train, self.num_nodes, config, features, device=self.device)
        self._static.train(key, partial(train_on, make=self._make_task, console=self.console))

    def _save(self, name: str, memory: dict[str, Tensor]) -> None:
        if self.folder is not None:
            static, sync = self._static.digest, self._listening.sync_log
            self._log = self._checkpoints.save(name, self.progress, memory, static, sync)
            self._listening(Saved(self.folder / name))

    def _on_record(self, step: int, record: BatchRecord) -> None:
        self._listening(StagesDone(self.progress.step - self.progress.batch + step, step, record))
