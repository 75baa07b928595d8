"""The interface of executors, which take the training steps for a trainer, and what executors share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.distributed.plan import ParallelPlan
from pyg_mspipe.distributed.random_state import RandomState
from pyg_mspipe.distributed.team import Team
from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline import Batches, BatchRecord, InFlight, PipelineEngine, Staleness
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.stages import B, BatchSource
from pyg_mspipe.pipeline.streams import StageStreams
from pyg_mspipe.tasks import Metrics, Objective, evaluate

TrainStep = Callable[[int], Tensor]
"""Trains the step of a sweep with the given number, and returns this process's share of its loss: Float32[]."""


@dataclass(frozen=True)
class Job:
    """What an executor trains.

    Attributes:
        objective: Model and task.
        optimizer: The optimizer of their weights.
        train: The batches of the training events.
        val: The batches of the validation events.
        groups: The groups of the stream's events, that metrics are told apart by.
        plan: Which trainers take part.
        staleness: How far memory may lag behind.
        prefetch: Batches prepared ahead of training.
        overlap: Whether batches are prepared during training; None to find out what is faster.
        seed: The run's seed.
        timeout: Seconds after which a process that does not answer is given up.
        on_record: Called for each batch that the pipeline has finished, with the step of the sweep and the record.
    """

    objective: Objective
    optimizer: Optimizer
    train: Batches
    val: Batches
    groups: EventGroups
    plan: ParallelPlan
    staleness: Staleness
    prefetch: int
    overlap: bool | None
    seed: int
    timeout: float
    on_record: Callable[[int, BatchRecord], None]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.objective.parameters()).device


class Executor(ABC):
    """Takes the steps of a run: a trainer says what and when, an executor how, and in which processes.

    A trainer calls :meth:`prepare` once, before all other methods. The methods that are not abstract suit an executor
    whose process has all of the first memory.

    Attributes:
        team: The processes that train the run.
        timeline: Whether it has a pipeline whose timeline can be drawn.
        stops_at_once: Whether it may stop after any step, rather than only where all processes meet.
    """

    team: Team = Team()
    timeline: bool = True
    stops_at_once: bool = True
    _job: Job

    def memory_device(self, plan: ParallelPlan) -> str | None:
        """Returns the device of node memory; None if it is that of the weights.

        Args:
            plan: The run's plan.
        """
        return None

    @abstractmethod
    def prepare(self, job: Job) -> None:
        """Gets ready to train.

        Args:
            job: What to train.
        """

    @abstractmethod
    def counts(self) -> list[int]:
        """Returns how many items the loss of each step of a sweep is a mean over."""

    @abstractmethod
    def sweep(self, epoch: int, first: int, step: int) -> AbstractContextManager[TrainStep]:
        """Returns a context that gives the function to call for each remaining step of a sweep, in order.

        Args:
            epoch: How often each event was trained before the sweep.
            first: The first remaining step.
            step: The number of that step in the run.
        """

    def validate(self, on_batch: Callable[[int], None]) -> Metrics:
        """Returns the metrics on the validation events, for a memory at the end of the training events.

        Args:
            on_batch: Called with the number of events of each batch done.
        """
        job = self._job
        return evaluate(
            job.objective,
            job.val,
            groups=job.groups,
            on_batch=on_batch,
            overlap=job.overlap,
            prefetch=job.prefetch,
        )

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """Returns a context in which sweeps may be trained, with the run's random state."""

    # The parts of an executor's state that checkpoints hold.

    @abstractmethod
    def random_state(self) -> RandomState:
        """Returns the first trainer's random state, for a checkpoint."""

    def memory_state(self) -> dict[str, Tensor]:
        """Returns the first memory's state, for a checkpoint: tensors of any shape, by name."""
        return self._job.objective.model.state.save()

    def load_memory_state(self, state: dict[str, Tensor]) -> None:
        """Takes over the state of the first memory.

        Args:
            state: The result of :meth:`memory_state`.
        """
        self._job.objective.model.state.load(state)

    @abstractmethod
    def load(self, random: RandomState, parts: dict[int, dict[str, Any]]) -> None:
        """Takes over a checkpoint's random state and the parts beside it; further memories begin empty without one.

        Args:
            random: The result of :meth:`random_state`.
            parts: The result of :meth:`parts`; empty if the sweep begins again.
        """

    @property
    def ranks(self) -> list[int]:
        """The trainers whose parts this process saves beside a checkpoint."""
        return []

    def parts(self, batch: int) -> dict[int, dict[str, Any]]:
        """Returns the trainers' parts to save beside a checkpoint, by rank: plain values and tensors.

        Args:
            batch: The next step of the sweep.
        """
        return {}


class Pipelines:
    """Makes the pipelines of a run's passes; each takes over the estimates of those before it.

    Args:
        job: What is trained.

    Attributes:
        streams: The CUDA streams of the stages.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._estimates = RunningDurations()
        self.streams = StageStreams(job.device)
        self._overlap = job.overlap

    def engine(
        self,
        source: BatchSource[B],
        *,
        epoch: int,
        first: int,
        step_of: Callable[[int], int] = lambda index: index,
        staleness: Staleness | None = None,
        state: NodeState | None = None,
    ) -> PipelineEngine[B]:
        """Returns the pipeline of a pass.

        Args:
            source: The source of the batches.
            epoch: Which pass over the stream this is.
            first: The batch to begin with.
            step_of: Returns the step of the sweep in which a batch is first trained.
            staleness: The staleness, if other than the run's.
            state: The state that the pipeline uses, if other than the model's memory.
        """
        job = self._job
        return PipelineEngine(
            source,
            job.objective.model.state if state is None else state,
            device=job.device,
            staleness=job.staleness if staleness is None else staleness,
            epoch=epoch,
            first=first,
            prefetch=job.prefetch,
            overlap=self._overlap,
            estimates=self._estimates,
            streams=self.streams,
            on_record=lambda record: job.on_record(step_of(record.index), record),
        )

    @contextmanager
    def flights(self, engine: PipelineEngine[B]) -> Iterator[Iterator[InFlight[B]]]:
        """Gives an iterator over the batches of a pass, to be used up when the ``with`` block ends.

        Args:
            engine: The pipeline of the pass.
        """
        with closing(iter(engine)) as flights:
            yield flights
            # When the iterator ends, all commits are applied.
            assert next(flights, None) is None
        self.done(engine)

    def done(self, engine: PipelineEngine[Any]) -> None:
        """Takes over from a finished pass whether overlap gains time.

        Args:
            engine: The pipeline of the pass.
        """
        self._overlap = engine.overlap
