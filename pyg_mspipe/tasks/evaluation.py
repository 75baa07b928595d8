"""Evaluation of a model and a task on later events, in order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_mspipe.pipeline.batches import Batches
from pyg_mspipe.pipeline.parts import read_parts
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
) -> Metrics:
    """Returns the metrics of a range of events and leaves the memory as it is after them.

    The memory must be that of the moment before the first event. The model is put into evaluation mode, and the
    messages that wait are applied.

    Args:
        objective: Its model's memory is updated with each batch, after that batch was scored.
        batches: The batches of the events to evaluate; read as epoch 0.
        unseen: Bool[E] over the whole stream, events that touch a node without any training event.
        on_batch: Called with the number of events of each batch done.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    scores = score_batches(objective, batches, range(len(batches)), on_batch)
    return objective.task.metrics(list(scores.values()), batches.events, unseen)


@torch.no_grad()
def score_batches(
    objective: Objective, batches: Batches, which: range, on_batch: Callable[[int], None] | None = None
) -> dict[int, Tensor]:
    """Returns the scores of those of some batches that ask anything, by number, and leaves the memory as after all.

    Args:
        objective: Model and task; the model's memory is updated with each batch.
        batches: The batches of the events; read as epoch 0.
        which: The batches to score; the others only update the memory, which is the same whoever scores them.
        on_batch: Called with the number of events of each batch done.

    Raises:
        DivergedError: If the model's scores are not numbers.
    """
    scored: dict[int, Tensor] = {}
    # All of it, as a memory computes rows when it is put into evaluation mode, and in each commit.
    with objective.autocast(batches.device):
        objective.eval()
        objective.model.settle(batches)
        for index in range(len(batches)):
            events, batch = batches.events_of(index), None
            parts = []
            for batch in read_parts(batches, index) if index in which else ():
                if batch.query_t.numel():
                    parts.append(objective.scores(batch).cpu())
            if parts:
                scored[index] = torch.cat(parts, dim=objective.task.score_dim) if len(parts) > 1 else parts[0]
                if bool(scored[index].isnan().any()):
                    raise DivergedError(
                        f"evaluation, batch {index}: the model's scores are nan; lower lr, or scale msg"
                    )
            if batch is None or batch.events != events:
                batch = batches.without_queries(events)
            objective.model.update(batch)
            if on_batch is not None:
                on_batch(len(batch.events))
    return scored
