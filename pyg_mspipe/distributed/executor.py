"""How the steps of a run are taken: what a trainer asks of whoever takes them, and what it tells them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyg_mspipe.distributed.plan import ParallelPlan
from pyg_mspipe.distributed.random_state import RandomState, random_state, set_random_state
from pyg_mspipe.distributed.team import Team
from pyg_mspipe.memory import NodeState
from pyg_mspipe.models.temporal_model import memory_of
from pyg_mspipe.pipeline import Batches, BatchRecord, InFlight, PipelineEngine, Staleness
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.stages import B, BatchSource
from pyg_mspipe.tasks import Metrics, Objective

TrainStep = Callable[[int], Tensor]
"""Trains a step of a sweep, by its number, and returns this process's share of its loss: Float32[]."""


@dataclass(frozen=True)
class Job:
    """What an executor trains.

    Attributes:
        objective: Model and task.
        optimizer: Of their weights.
        train: The batches of the training events.
        val: Those of the validation events.
        unseen: Bool[E], events that touch a node without any training event.
        plan: Who takes part.
        staleness: How far memory may lag behind.
        prefetch: Batches prepared ahead of training.
        overlap: Whether batches are prepared beside training; none to find out.
        seed: Of the run.
        timeout: Seconds after which a process that does not answer is given up.
        on_record: Called with the step of the sweep and the record of each batch that the pipeline is done with.
    """

    objective: Objective
    optimizer: Optimizer
    train: Batches
    val: Batches
    unseen: Tensor
    plan: ParallelPlan
    staleness: Staleness
    prefetch: int
    overlap: bool | None
    seed: int
    timeout: float
    on_record: Callable[[int, BatchRecord], None]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.objective.parameters()).device


class Executor(ABC):
    """Takes the steps of a run: a trainer says what and when, an executor how, and in which processes.

    A trainer calls :meth:`prepare` once, and the other methods after it.

    Attributes:
        team: The processes that train the run.
        timeline: Whether there is a pipeline whose timeline can be drawn.
        stops_at_once: Whether a request to stop is seen after any step, and not only where several processes meet.
    """

    team: Team = Team()
    timeline: bool = True
    stops_at_once: bool = True

    def memory_device(self, plan: ParallelPlan) -> str | None:
        """Returns where node memory must be kept; nothing if with the weights.

        Args:
            plan: Of the run.
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
        """Gives what trains the steps of a sweep that are left, in order.

        Args:
            epoch: How often each event has been trained before the sweep.
            first: The step to begin with.
            step: Its number in the run.
        """

    @abstractmethod
    def validate(self, on_batch: Callable[[int], None]) -> Metrics:
        """Returns the metrics on the validation events, for a memory at the end of the training events.

        Args:
            on_batch: Called with the number of events of each batch done.
        """

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """Returns a context that holds what sweeps need, random state among it, while they are trained."""

    # What a run keeps of an executor.

    @abstractmethod
    def random_state(self) -> RandomState:
        """Returns the random state for a checkpoint, that of the first trainer."""

    @abstractmethod
    def memory_state(self) -> dict[str, Tensor]:
        """Returns the state of the first memory for a checkpoint: tensors of any shape, by name."""

    @abstractmethod
    def load_memory_state(self, state: dict[str, Tensor]) -> None:
        """Takes over the state of the first memory.

        Args:
            state: From :meth:`memory_state`.
        """

    @abstractmethod
    def load(self, random: RandomState, parts: dict[int, dict[str, Any]]) -> None:
        """Takes over the random state of a checkpoint and what was saved beside it; other memories begin empty.

        Args:
            random: From :meth:`random_state`.
            parts: From :meth:`parts`, by rank; empty where the sweep begins anew.
        """

    @property
    def ranks(self) -> list[int]:
        """The trainers for which something is saved beside a checkpoint in this process."""
        return []

    def parts(self, batch: int) -> dict[int, dict[str, Any]]:
        """Returns what is to be saved beside a checkpoint, by rank: plain values and tensors.

        Args:
            batch: The next step of the sweep.
        """
        return {}


class Pipelines:
    """The pipelines of a run's passes; each goes on with what those before it have found out.

    Args:
        job: What is trained.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._estimates = RunningDurations()
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
            source: Of the batches.
            epoch: Which pass over the stream this is.
            first: The batch to begin with.
            step_of: Returns in which step of the sweep a batch is trained first.
            staleness: Instead of the run's.
            state: Instead of that of the model's memory.
        """
        job = self._job
        return PipelineEngine(
            source,
            memory_of(job.objective.model).state if state is None else state,
            device=job.device,
            staleness=job.staleness if staleness is None else staleness,
            epoch=epoch,
            first=first,
            prefetch=job.prefetch,
            overlap=self._overlap,
            estimates=self._estimates,
            on_record=lambda record: job.on_record(step_of(record.index), record),
        )

    @contextmanager
    def flights(self, engine: PipelineEngine[B]) -> Iterator[Iterator[InFlight[B]]]:
        """Gives the batches of a pass; at its end they must all have been taken.

        Args:
            engine: Of the pass.
        """
        with closing(iter(engine)) as flights:
            yield flights
            # All commits are applied once there are no more batches.
            assert next(flights, None) is None
        self.done(engine)

    def done(self, engine: PipelineEngine[Any]) -> None:
        """Takes note of what a pass has found out.

        Args:
            engine: Of the pass.
        """
        self._overlap = engine.overlap


@contextmanager
def own_random_state(device: torch.device, state: RandomState) -> Iterator[None]:
    """Has torch draw from a random state inside, and puts into ``state`` what it is afterwards.

    Args:
        device: On which is computed.
        state: From :func:`random_state`.
    """
    set_random_state(device, state)
    try:
        yield
    finally:
        state.update(random_state(device))
