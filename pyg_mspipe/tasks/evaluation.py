"""Evaluation of a model and a task on later events, in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor

from pyg_mspipe.pipeline.batches import Batches
from pyg_mspipe.pipeline.engine import PipelineEngine
from pyg_mspipe.pipeline.no_state import NoState
from pyg_mspipe.pipeline.parts import EvaluationBatches
from pyg_mspipe.tasks.objective import Objective
from pyg_mspipe.tasks.task import Metrics


class DivergedError(ArithmeticError):
    """Training left the finite numbers, with how to mend it."""


def evaluate(
    objective: Objective,
    batches: Batches,
    *,
    unseen: Tensor | None = None,
    on_batch: Callable[[int], None] | None = None,
    overlap: bool | None = False,
    prefetch: int = 3,
) -> Metrics:
    """Returns the metrics of a range of events and leaves the memory as it is after them.

    The memory must be that of the moment before the first event. The model is put into evaluation mode, and the
    messages that wait are applied.

    Args:
        objective: Its model's memory is updated with each batch, after that batch was scored.
        batches: The batches of the events to evaluate; read as epoch 0.
        unseen: Bool[E] over the whole stream, events that touch a node without any training event.
        on_batch: Called with the number of events of each batch done.
        overlap: Whether batches are read beside scoring; none to find out what is faster.
        prefetch: How many batches may be read ahead.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    every = range(len(batches))
    scores = score_batches(objective, batches, every, on_batch, overlap=overlap, prefetch=prefetch)
    return objective.task.metrics(list(scores.values()), batches.events, unseen)


@torch.no_grad()
def score_batches(
    objective: Objective,
    batches: Batches,
    which: range,
    on_batch: Callable[[int], None] | None = None,
    *,
    overlap: bool | None = False,
    prefetch: int = 3,
) -> dict[int, Tensor]:
    """Returns the scores of those of some batches that ask anything, by number, and leaves the memory as after all.

    Args:
        objective: Model and task; the model's memory is updated with each batch.
        batches: The batches of the events; read as epoch 0.
        which: The batches to score; the others only update the memory, which is the same whoever scores them.
        on_batch: Called with the number of events of each batch done.
        overlap: Whether batches are read beside scoring; none to find out what is faster.
        prefetch: How many batches may be read ahead.

    Raises:
        DivergedError: If the model's scores are not numbers.
        PipelineError: If a batch cannot be read.
    """
    scored: dict[int, Tensor] = {}
    source, device = EvaluationBatches(batches, which), batches.device
    engine = PipelineEngine(source, NoState(), device=device, overlap=overlap, prefetch=prefetch)
    # All of it, as a memory computes rows when it is put into evaluation mode, and in each commit.
    with objective.autocast(device), closing(iter(engine)) as flights:
        objective.eval()
        objective.model.settle(batches)
        for index, flight in enumerate(flights):
            batch = flight.batch
            assert batch is not None
            parts = [objective.scores(part).cpu() for part in source.parts(index, batch) if part.query_t.numel()]
            if parts:
                scored[index] = parts[0] if len(parts) == 1 else torch.cat(parts, dim=objective.task.score_dim)
                if bool(scored[index].isnan().any()):
                    raise DivergedError(
                        f"evaluation, batch {index}: the model's scores are nan; lower lr, or scale msg"
                    )
            objective.model.update(batch)
            if on_batch is not None:
                on_batch(len(batch.events))
    return scored
