"""Training of a TGN on a stream, from the first batch to the last, through any interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_mspipe.distributed.random_state import random_state, set_random_state
from pyg_mspipe.pipeline import Batch, BatchRecord, PipelineEngine, Staleness, parse_staleness
from pyg_mspipe.pipeline.stages import B, BatchSource, Stage
from pyg_mspipe.pipeline.timeline import TraceWriter
from pyg_mspipe.tasks import DivergedError, LinkMetrics, evaluate, train_step
from pyg_mspipe.tasks.objective import LOSS_BLOCK
from pyg_mspipe.training.interrupt import Interrupted, StopRequest, interruptible
from pyg_mspipe.training.metrics_log import MetricsLog
from pyg_mspipe.training.progress import TrainingProgress
from pyg_mspipe.training.run_folder import BEST, LAST, own_folder
from pyg_mspipe.training.run_progress import Progress
from pyg_mspipe.training.run_state import RunState

TrainStep = Callable[[int], Tensor]
"""Trains one step and returns this process's share of its loss: Float32[]."""


class Trainer(RunState):
    """Trains the built-in TGN on link prediction.

    Batches are prepared beside training as ``config.staleness`` says; with ``"exact"`` and ``"sequential"`` the seed
    decides every number, with the others the timing has its part in them.

    The run's folder gets ``last.pt``, from which the run resumes bit for bit, ``best.pt``, the model of the best
    validation AP with the memory at the end of its training events, ``metrics.jsonl``, and with static node memory
    ``static.pt``, its vectors.

    Args:
        data: The stream, validated here.
        config: All settings.
        folder: Of the run; made where it is missing. Without one nothing but a timeline is written.
        console: Where progress is shown; by default nowhere.
        source: How the stream was loaded, plain values kept in the checkpoints for whoever resumes.
        similar_cache: Where similar nodes are kept for the next run, where the mitigation needs them.

    Raises:
        StreamError: If the stream cannot be used, or a split has no events.
        ConfigError: If the device is not there.
    """

    epochs_at_once = 1
    """How often each event is trained between two validations."""

    stops_at_once = True
    """Whether a request to stop is seen after any step, and not only where several processes meet."""

    def train_step(self, batch: Batch) -> Tensor:
        """Returns the loss of ``batch``, after weights and memory were updated with it: Float32[]."""
        return train_step(self.objective, batch, [self.optimizer], commit=self.model.commit)

    def evaluate(self, part: str, on_batch: Callable[[int], None] | None = None) -> LinkMetrics:
        """Returns the metrics on ``"val"`` or ``"test"``, and moves the memory to the end of that part.

        The memory must be that at the end of the part before, so this is called once for each part and in order;
        :meth:`test` does so.

        Args:
            part: ``"val"`` or ``"test"``.
            on_batch: Called with the number of events of each batch done.
        """
        batches = self.batches(part, self.config.eval_negatives)
        metrics = evaluate(self.objective, batches, unseen=self.unseen, on_batch=on_batch)
        assert isinstance(metrics, LinkMetrics)
        return metrics

    def test(self, checkpoint: dict[str, Any]) -> dict[str, LinkMetrics]:
        """Returns the metrics of a checkpoint's model, such as ``best.pt``, on ``"val"`` and then ``"test"``.

        Args:
            checkpoint: From :func:`load_checkpoint`, written at the end of an epoch's training events.

        Raises:
            CheckpointError: If it is of another stream.
        """
        self.load(checkpoint)
        return {part: self.evaluate(part) for part in ("val", "test")}

    def fit(self, *, replace: bool = False) -> Progress:
        """Trains until the last epoch or until early stopping, and returns how it went.

        Args:
            replace: Whether a run that begins may remove one that is in the folder.

        Raises:
            ConfigError: If the folder has a run already, or another process is training in it.
            Interrupted: After Ctrl-C or SIGTERM, once the state is saved.
            DivergedError: If the loss or a score is no longer a finite number.
        """
        if self.folder is None:
            return self._fit()
        with own_folder(self.folder, fresh=self.progress.step == 0, replace=replace):
            return self._fit()

    def _fit(self) -> Progress:
        config, progress = self.config, self.progress
        self._pretrain_static()
        log = MetricsLog(self.folder, length=self._log_length, tensorboard=config.tensorboard, step=progress.step)
        epochs = math.ceil(config.epochs / self.epochs_at_once) * self.epochs_at_once
        with interruptible() as request, TrainingProgress(self.console, epochs) as view, log:
            if progress.step == 0:
                log.write("run", 0, config=asdict(config), source=self.source, stream=self.fingerprint)
            set_random_state(self.device, self._random)
            try:
                while progress.epoch < config.epochs and not progress.stopped:
                    rate = self._train_epoch(view, log, request)
                    self._finish_epoch(view, log, request, rate)
            finally:
                self._random = random_state(self.device)
        return progress

    def _train_epoch(self, view: TrainingProgress, log: MetricsLog, request: StopRequest) -> float:
        """Trains what is left of the epoch, or of several at once, and returns the rate, in events per second."""
        config, progress = self.config, self.progress
        counts = self._counts()
        self.model.train()
        start = shown = done = sum(counts[: progress.batch])
        view.begin("train", progress.epoch + self.epochs_at_once - 1, sum(counts), done)
        began = time.perf_counter()
        waiting: list[Tensor] = []
        with self._pass(view, log) as train:
            for step in range(progress.batch, len(counts)):
                waiting.append(train(step))
                progress.batch += 1
                progress.step += 1
                done += counts[step]
                at_end = progress.batch == len(counts)
                due = not at_end and config.checkpoint_every and progress.batch % config.checkpoint_every == 0
                if len(waiting) == LOSS_BLOCK or at_end or due or (request.made and self.stops_at_once):
                    losses, stop = self._of_all(torch.stack(waiting), request.made)
                    self._log_losses(losses.tolist(), counts, log)
                    view.advance(done - shown, progress.loss_sum / done)
                    shown, waiting = done, []
                    if (due or stop) and not at_end:
                        self._save(LAST, self._memory_state(), log)
                    if stop and not at_end:
                        raise Interrupted
        return (done - start) / (time.perf_counter() - began)

    def _counts(self) -> list[int]:
        """Returns how many events are trained in each step between two validations."""
        batches = self.batches("train")
        return [len(batches.events_of(index)) for index in range(len(batches))]

    @contextmanager
    def _pass(self, view: TrainingProgress, log: MetricsLog) -> Iterator[TrainStep]:
        """Gives what trains the steps that are left, in order."""
        if self.progress.batch == 0:
            self.model.memory.reset_state()
        with self._trace() as trace:
            engine = self._engine(self.batches("train"), self.progress.batch, view, log, trace)
            with closing(iter(engine)) as flights:

                def train(step: int) -> Tensor:
                    batch = next(flights).batch
                    assert batch is not None
                    return self.train_step(batch)

                yield train
                # All commits are applied once there are no more batches.
                assert next(flights, None) is None
            self._overlap = engine.overlap

    def _of_all(self, losses: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Returns the losses of steps, Float32[n], of all processes, and whether any of them was asked to stop."""
        return losses, stop

    @contextmanager
    def _trace(self) -> Iterator[TraceWriter | None]:
        """Gives where the pass is to be drawn, if it is the first one and the settings ask for it."""
        path, self._timeline = self._timeline, ""
        if not path or self.progress.step:
            yield None
            return
        with TraceWriter(Path(path), self._timeline_title()) as trace:
            yield trace

    def _timeline_title(self) -> str:
        """Returns what a timeline is called."""
        return f"staleness {self.config.staleness}"

    def _engine(
        self,
        source: BatchSource[B],
        first: int,
        view: TrainingProgress,
        log: MetricsLog,
        trace: TraceWriter | None,
        *,
        step_of: Callable[[int], int] = lambda index: index,
        staleness: Staleness | None = None,
        stages: Sequence[Stage[B]] | None = None,
        at_once: bool = False,
    ) -> PipelineEngine[B]:
        """Returns the pipeline of a pass over a source's batches, whose records are shown, drawn and logged.

        Args:
            source: Of the batches.
            first: The batch to begin with.
            view: Shows the staleness.
            log: Gets a line for each batch.
            trace: Where the pass is drawn, if it is.
            step_of: Returns in which step of the pass a batch is trained first.
            staleness: Instead of the settings'.
            stages: As for :class:`PipelineEngine`.
            at_once: As for :class:`PipelineEngine`.
        """
        config, progress = self.config, self.progress
        before = progress.step - progress.batch

        def on_record(record: BatchRecord) -> None:
            view.staleness = record.staleness
            if trace is not None:
                trace.add(record)
            values = {"bound": record.bound, "staleness": record.staleness, "fetched": record.fetched}
            times = {"work_ms": record.work_ms(), "wait_ms": record.wait_ms()}
            step = step_of(record.index)
            log.write("stages", before + step, batch=step, **values, **times)

        return PipelineEngine(
            source,
            self.model.memory,
            staleness=parse_staleness(config.staleness) if staleness is None else staleness,
            epoch=progress.epoch,
            first=first,
            prefetch=config.prefetch,
            overlap=self._overlap,
            estimates=self._estimates,
            stages=stages,
            at_once=at_once,
            on_record=on_record,
        )

    def _finish_epoch(self, view: TrainingProgress, log: MetricsLog, request: StopRequest, rate: float) -> None:
        """Validates, keeps the model if it is the best, and turns to the next epoch."""
        config, progress = self.config, self.progress
        # The last one, where several are trained at once.
        epoch = progress.epoch + self.epochs_at_once - 1
        # Validation moves the memory on; checkpoints hold what it was at the end of the training events.
        memory = self._memory_state()
        self._save(LAST, memory, log)
        view.begin("validate", epoch, len(self.split.val))
        metrics = self._validate(view, request, memory)
        trained = len(self.split.train) * self.epochs_at_once
        loss = progress.loss_sum / trained
        best = metrics.ap > progress.best_ap
        if best:
            progress.best_ap, progress.best_epoch = metrics.ap, epoch
            self._save(BEST, memory, log)
        values = asdict(metrics) | {"cut_off": config.cut_off, "negatives": config.negatives}
        log.write("epoch", progress.step - 1, epoch=epoch, trained=trained, loss=loss, rate=rate, best=best, **values)
        view.epoch_done(epoch, loss, metrics, rate, best)
        progress.stopped = bool(config.patience) and epoch - progress.best_epoch >= config.patience
        progress.epoch, progress.batch, progress.loss_sum = epoch + 1, 0, 0.0
        self._save(LAST, memory, log)

    def _validate(self, view: TrainingProgress, request: StopRequest, memory: dict[str, Tensor]) -> LinkMetrics:
        """Returns the validation metrics; when interrupted, the memory is again what it was."""

        def advance(events: int) -> None:
            view.advance(events)
            if request.made:
                raise Interrupted

        if request.made:
            raise Interrupted
        try:
            return self.evaluate("val", advance)
        except Interrupted:
            self.model.train()
            self.model.memory.load_memory_state(memory)
            raise

    def _log_losses(self, losses: list[float], counts: list[int], log: MetricsLog) -> None:
        """Writes the losses of the last steps and adds them to the sum.

        Args:
            losses: Of the steps up to the one before ``progress.batch``.
            counts: How many events are trained in each step.
            log: Where to write them.
        """
        progress = self.progress
        for back, loss in zip(range(len(losses), 0, -1), losses, strict=True):
            index = progress.batch - back
            if not math.isfinite(loss):
                where = f"epoch {progress.epoch + 1}, batch {index}"
                lr = self.optimizer.param_groups[0]["lr"]
                raise DivergedError(f"{where}: the loss is {loss}; lower lr, which is {lr}, or scale msg")
            progress.loss_sum += loss * counts[index]
            log.write("batch", progress.step - back, epoch=progress.epoch, batch=index, loss=loss)
