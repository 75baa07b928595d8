"""The loop of a run: sweeps of training steps, each followed by a validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from pyg_mspipe.distributed.executor import Executor, Job
from pyg_mspipe.tasks import DivergedError, Metrics
from pyg_mspipe.tasks.objective import LOSS_BLOCK
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.events import Advanced, BatchTrained, EpochDone, Listener, PartBegun
from pyg_mspipe.training.interrupt import Interrupted, StopRequest
from pyg_mspipe.training.run_checkpoint import Progress
from pyg_mspipe.training.run_folder import BEST, LAST


class TrainingLoop:
    """Trains a run sweep by sweep: an epoch, or the epochs that a plan trains at once.

    Args:
        config: The run's settings.
        job: What is trained.
        executor: Takes the steps.
        progress: How far the run is; updated here.
        request: Whether the user asked to stop.
        publish: Called with each event.
        save: Writes a checkpoint, given the file's name and a state of the memory.
    """

    def __init__(
        self,
        config: TrainConfig,
        job: Job,
        executor: Executor,
        progress: Progress,
        request: StopRequest,
        publish: Listener,
        save: Callable[[str, dict[str, Tensor]], None],
    ) -> None:
        self._config = config
        self._executor = executor
        self._job = job
        self._progress = progress
        self._request = request
        self._publish = publish
        self._save = save
        self._counts = executor.counts()

    def run(self) -> None:
        """Trains until the last epoch or until early stopping.

        Raises:
            Interrupted: If the user asked to stop, once the state is saved.
            DivergedError: If the loss or a score is no longer a finite number.
        """
        with self._executor.running():
            while self._progress.epoch < self._config.epochs and not self._progress.stopped:
                rate = self._train_sweep()
                self._finish_sweep(rate)

    def _train_sweep(self) -> float:
        """Trains what is left of a sweep and returns the rate, in items per second."""
        progress, counts = self._progress, self._counts
        every = self._config.checkpoint_every
        self._job.objective.train()
        start = shown = done = sum(counts[: progress.batch])
        self._publish(PartBegun("train", self._last_epoch, sum(counts), done))
        began = time.perf_counter()
        waiting: list[Tensor] = []
        with self._executor.sweep(progress.epoch, progress.batch, progress.step) as train:
            for step in range(progress.batch, len(counts)):
                waiting.append(train(step))
                progress.batch += 1
                progress.step += 1
                done += counts[step]
                at_end = progress.batch == len(counts)
                due = not at_end and every and progress.batch % every == 0
                stop_seen = self._request.made and self._executor.stops_at_once
                if len(waiting) == LOSS_BLOCK or at_end or due or stop_seen:
                    losses, stop = self._executor.team.reduce(torch.stack(waiting), self._request.made)
                    self._take_losses(losses.tolist())
                    self._publish(Advanced(done - shown, progress.loss_sum / max(done, 1)))
                    shown, waiting = done, []
                    if (due or stop) and not at_end:
                        self._save(LAST, self._executor.memory_state())
                    if stop and not at_end:
                        raise Interrupted
        return (done - start) / (time.perf_counter() - began)

    def _finish_sweep(self, rate: float) -> None:
        """Validates, saves the model as the best if it is, and moves on to the next sweep."""
        config, progress, epoch = self._config, self._progress, self._last_epoch
        # Validation changes the memory; checkpoints hold the memory at the end of the training events.
        memory = self._executor.memory_state()
        self._save(LAST, memory)
        metrics = self._validate(memory)
        trained = sum(self._counts)
        loss = progress.loss_sum / trained
        score = getattr(metrics, self._job.objective.task.best)
        best = score > progress.best
        if best:
            progress.best, progress.best_epoch = score, epoch
            self._save(BEST, memory)
        settings: dict[str, str] = {
            "cut_off": config.cut_off,
            "negatives": config.negatives,
            "protocol": config.protocol,
        }
        self._publish(EpochDone(progress.step - 1, epoch, trained, loss, rate, best, metrics, settings))
        progress.stopped = bool(config.patience) and epoch - progress.best_epoch >= config.patience
        progress.epoch, progress.batch, progress.loss_sum = epoch + 1, 0, 0.0
        self._save(LAST, memory)

    def _validate(self, memory: dict[str, Tensor]) -> Metrics:
        """Returns the validation metrics; if interrupted, puts the memory back to what it was before."""
        self._publish(PartBegun("validate", self._last_epoch, len(self._job.val.events)))
        _, stop = self._executor.team.reduce(torch.zeros(1), self._request.made)
        if stop:
            raise Interrupted

        def advance(events: int) -> None:
            self._publish(Advanced(events))
            if self._request.made and self._executor.stops_at_once:
                raise Interrupted

        try:
            return self._executor.validate(advance)
        except Interrupted:
            self._job.objective.train()
            self._executor.load_memory_state(memory)
            raise

    def _take_losses(self, losses: list[float]) -> None:
        """Publishes the losses of the last steps before ``progress.batch``, and adds them to the sum."""
        progress = self._progress
        for back, loss in zip(range(len(losses), 0, -1), losses, strict=True):
            index = progress.batch - back
            if not math.isfinite(loss):
                where = f"epoch {progress.epoch + 1}, batch {index}"
                lr = self._job.optimizer.param_groups[0]["lr"]
                raise DivergedError(f"{where}: the loss is {loss}; lower lr, which is {lr}, or scale msg")
            progress.loss_sum += loss * self._counts[index]
            self._publish(BatchTrained(progress.step - back, progress.epoch, index, loss))

    @property
    def _last_epoch(self) -> int:
        """The last of the epochs that the sweep trains."""
        return self._progress.epoch + self._job.plan.epochs_per_sweep - 1
