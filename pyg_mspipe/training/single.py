"""The executor of a run in one process, with the whole pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from pyg_mspipe.distributed import PlanError
from pyg_mspipe.distributed.executor import Executor, Job, Pipelines, TrainStep
from pyg_mspipe.distributed.random_state import RandomState, own_random_state, random_state
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.padding import Padding
from pyg_mspipe.tasks.captured_step import CapturedSteps, TakeStep, eager_step

_LOOKED_AT = 32
"""Batches from which the sizes of padded ones are chosen."""


def padding_for(batches: Batches) -> Padding:
    """Returns the padding of some batches, chosen by a few of them from everywhere in the stream.

    Args:
        batches: The batches.
    """
    whole = [i for i in range(len(batches)) if len(batches.events_of(i)) == batches.batch_size]
    some = whole[:: max(len(whole) // _LOOKED_AT, 1)]
    return Padding.of(batches.draw(batches.events_of(index), 0, index) for index in some)


class SingleExecutor(Executor):
    """Trains batch after batch in this process; the pipeline prepares batches as the settings say."""

    def prepare(self, job: Job) -> None:
        """Gets ready to train."""
        if job.plan.world > 1:
            raise PlanError(
                f"plan {job.plan} has several trainers; pass executor=ProcessExecutor(world) in processes that "
                f"torchrun starts, or executor=EmulatedExecutor()"
            )
        self._job = job
        self._pipelines = Pipelines(job)
        self._random = random_state(job.device)
        self._step: TakeStep | None = None

    def counts(self) -> list[int]:
        """Returns how many items the loss of each step of a sweep is a mean over."""
        batches, task = self._job.train, self._job.objective.task
        return [task.count(batches.events_of(index)) for index in range(len(batches))]

    @contextmanager
    def sweep(self, epoch: int, first: int, step: int) -> Iterator[TrainStep]:
        """Gives the function to call for each remaining batch of an epoch, in order."""
        objective = self._job.objective
        take = self._step = self._step or self._new_step()
        if first == 0:
            objective.model.state.clear(self._job.train.events.start)
        engine = self._pipelines.engine(self._job.train, epoch=epoch, first=first)
        with self._pipelines.flights(engine) as flights:

            def train(step: int) -> Tensor:
                flight = next(flights)
                assert flight.batch is not None
                return take(flight.batch.with_rows(flight.rows), engine.commit)

            yield train

    def _new_step(self) -> TakeStep:
        """Returns what takes the steps. On a GPU it may have recorded them, so a loaded optimizer needs a new one."""
        job = self._job
        stream = self._pipelines.streams.own("train")
        if stream is None:
            return partial(eager_step, job.objective, job.optimizer)
        for group in job.optimizer.param_groups:
            group["capturable"] = True
        job.train.forwards = job.prefetch + 2
        # A subclass may do otherwise than the model that it is made from, so it says it for itself.
        paddable = vars(type(job.objective.model)).get("paddable", False)
        if paddable and not isinstance(job.train.finish, Padding):
            job.train.finish = padding_for(job.train)
        return CapturedSteps(job.objective, job.optimizer, job.train.batch_size, stream)

    def running(self) -> AbstractContextManager[None]:
        """Returns a context in which torch draws from the run's random state."""
        return own_random_state(self._job.device, self._random)

    def random_state(self) -> RandomState:
        """Returns the random state for a checkpoint."""
        return random_state(self._job.device)

    def load(self, random: RandomState, parts: dict[int, dict[str, Any]]) -> None:
        """Takes over the random state of a checkpoint."""
        self._random = dict(random)
        self._step = None
