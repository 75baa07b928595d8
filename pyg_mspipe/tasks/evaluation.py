"""Evaluation of a model and a task on later events, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import torch
from torch import Tensor

from pyg_mspipe.data.event_groups import EventGroups
from pyg_mspipe.pipeline.batches import Batches
from pyg_mspipe.pipeline.engine import PipelineEngine
from pyg_mspipe.pipeline.no_state import NoState
from pyg_mspipe.pipeline.parts import EvaluationBatches
from pyg_mspipe.tasks.objective import Objective
from pyg_mspipe.tasks.task import Metrics

OnBatch = Callable[[int], None]
"""Is called with the number of events of each batch that is done."""

OnScores = Callable[[range, Sequence[Tensor]], None]
"""Is called with the event ids of evaluated batches and the scores of each, [...], see :meth:`Task.scores`."""


class DivergedError(ArithmeticError):
    """Training left the finite numbers, with how to mend it."""


def evaluate(
    objective: Objective,
    batches: Batches,
    *,
    groups: EventGroups | None = None,
    on_batch: OnBatch | None = None,
    on_scores: OnScores | None = None,
    overlap: bool | None = False,
    prefetch: int = 3,
) -> Metrics:
    """Returns the metrics of a range of events and leaves the memory as it is after them.

    The memory must be that of the moment before the first event. The model is put into evaluation mode, and the
    messages that wait are applied.

    Args:
        objective: Its model's memory is updated with each batch, after that batch was scored.
        batches: The batches of the events to evaluate; read as epoch 0.
        groups: The groups of the stream's events, that metrics may be told apart by.
        on_batch: Called with the number of events of each batch done.
        on_scores: Called with the event ids of all batches and the scores of each, such as to keep what metrics lose.
        overlap: Whether batches are read beside scoring; none to find out what is faster.
        prefetch: How many batches may be read ahead.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    every = range(len(batches))
    scores = list(score_batches(objective, batches, every, on_batch, overlap=overlap, prefetch=prefetch).values())
    if on_scores is not None:
        on_scores(batches.events, scores)
    return objective.task.metrics(scores, batches.events, groups)


@torch.no_grad()
def score_batches(
    objective: Objective,
    batches: Batches,
    which: range,
    on_batch: OnBatch | None = None,
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
