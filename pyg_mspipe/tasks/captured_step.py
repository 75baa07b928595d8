"""Training steps that a GPU has seen before, given to it as a whole: recorded once for each size, and replayed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyg_mspipe.data.tensor_tree import map_tensors, tensors_of
from pyg_mspipe.memory import Commit
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.tasks.objective import Objective, train_step

WARM_UP = 3
"""Steps that are taken one operation at a time before the first is recorded; of each size there is one such at least,
so that all libraries are ready."""

TakeStep = Callable[[Batch, Callable[[Commit], None]], Tensor]
"""Takes a training step on a batch with its features and rows, hands over its commit and returns its loss."""

Replay = Callable[[], Any]
"""Does again on the current stream what was recorded, and returns what that returned: the same tensors each time."""


def record(work: Callable[[], Any], device: torch.device, pool: Any = None) -> tuple[Replay, Any]:
    """Returns a replay of work on a GPU, which is recorded and not done, and the memory pool of its tensors.

    Args:
        work: Launches the work; it may not wait for the device.
        device: The GPU.
        pool: The pool of an earlier record whose tensors it uses.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads go on with their own streams meanwhile.
    with torch.cuda.device(device), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        made = work()

    def replay() -> Any:
        graph.replay()
        return made

    return replay, graph.pool()


class CapturedSteps:
    """Takes training steps on a GPU, where batches are padded as recorded CUDA graphs.

    The first steps of each size are taken as :func:`train_step` does, and all of batches that are not padded, that
    bring what repairs stale rows, or whose model or task cannot be recorded. A step is two graphs: what makes the new
    rows of node memory, which others wait for, and the rest.

    Args:
        objective: Model and task.
        optimizer: Updates the weights; one that can be recorded, such as ``Adam(..., capturable=True)``.
        device: The GPU.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, device: torch.device) -> None:
        self._objective = objective
        self._optimizer = optimizer
        self._device = device
        self._seen: set[Any] = set()
        self._taken = 0
        self._steps: dict[Any, _Step] = {}
        self._refused = False

    def __call__(self, batch: Batch, commit: Callable[[Commit], None]) -> Tensor:
        """Returns the loss of a batch, after its gradients were computed and its commit made: Float32[].

        Args:
            batch: The batch, with its features and rows.
            commit: Takes the memory update.
        """
        key = None if self._refused else self._key(batch)
        step = self._steps.get(key)
        if key in self._seen and step is None and self._taken >= WARM_UP:
            step = self._recorded(key, batch)
        if step is not None:
            return step(batch, commit)
        self._taken += 1
        if key is not None:
            self._seen.add(key)
        return eager_step(self._objective, self._optimizer, batch, commit)

    def _key(self, batch: Batch) -> Any:
        """Returns what a recorded step depends on but for the values of tensors; none if a batch is not recorded."""
        rows = batch.rows
        if batch.padded is None or rows is None or rows.repair is not None or rows.missed is not None:
            return None
        shapes = tuple((x.shape, x.dtype) for x in tensors_of(_inputs(batch)))
        return shapes, tuple(group["lr"] for group in self._optimizer.param_groups)

    def _recorded(self, key: Any, batch: Batch) -> _Step | None:
        try:
            self._steps[key] = _Step(self._objective, self._optimizer, batch, self._device)
        except (RuntimeError, AttributeError, TypeError) as error:
            self._refused = True
            warnings.warn(
                f"training steps are not recorded as CUDA graphs, but launched one operation at a time, since the "
                f"model or the task does what a graph cannot hold: {error}",
                stacklevel=2,
            )
        return self._steps.get(key)


class _Count:
    """Stands for the events of all batches of a size, of which a recorded step may know nothing but the number."""

    stop = 0

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class _Step:
    """A recorded step for batches of one size.

    Args:
        objective: Model and task.
        optimizer: Of their weights.
        batch: Such a batch.
        device: The GPU.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, batch: Batch, device: torch.device) -> None:
        self._batch = map_tensors(replace(_inputs(batch), events=cast("range", _Count(len(batch.events)))), torch.clone)
        self._tensors = list(tensors_of(self._batch))
        self._objective, self._optimizer = objective, optimizer
        self._loss: Tensor | None = None
        optimizer.zero_grad()
        self._forward, pool = record(self._make_rows, device)
        self._rest, _ = record(self._learn, device, pool)

    def __call__(self, batch: Batch, commit: Callable[[Commit], None]) -> Tensor:
        """Returns the loss of a batch, after its gradients were computed and its commit made: Float32[]."""
        copy_all(self._tensors, list(tensors_of(_inputs(batch))))
        loss, made = self._forward()
        # What the next replay writes over is others' from here on.
        commit(_trimmed(replace(map_tensors(made, torch.clone), stop=batch.events.stop), batch))
        self._rest()
        result: Tensor = loss.detach().clone()
        return result

    def _make_rows(self) -> tuple[Tensor, Commit]:
        loss = self._objective(self._batch)
        self._loss = loss
        with torch.no_grad():
            return loss, self._objective.model.commit(self._batch)

    def _learn(self) -> None:
        assert self._loss is not None
        self._optimizer.zero_grad()
        self._loss.backward()
        self._optimizer.step()
        self._loss = None


def eager_step(objective: Objective, optimizer: Optimizer, batch: Batch, commit: Callable[[Commit], None]) -> Tensor:
    """Returns what :func:`train_step` does, with a commit of the nodes alone that a padded batch truly touches.

    Args:
        objective: Model and task.
        optimizer: Of their weights.
        batch: The batch, with its features and rows.
        commit: Takes the memory update.
    """

    def made(batch: Batch) -> None:
        commit(_trimmed(objective.model.commit(batch), batch))

    return train_step(objective, batch, [optimizer], commit=made)


def copy_all(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copies tensors into others of the same shapes, all of one type at once.

    Args:
        into: Those that are written.
        values: What is written, on the same device.
    """
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    done = set()
    for own, value in zip(into, values, strict=True):
        if id(own) not in done:
            done.add(id(own))
            lists = kinds.setdefault(own.dtype, ([], []))
            lists[0].append(own)
            lists[1].append(value)
    for own_list, value_list in kinds.values():
        torch._foreach_copy_(own_list, value_list)


def _inputs(batch: Batch) -> Batch:
    """Returns the part of a batch that training reads."""
    plan, rows = batch.plan, batch.rows
    if plan is not None:
        plan = replace(plan, met={}, drawn=None)
    if rows is not None:
        rows = replace(rows, met={}, reads={} if plan is None else plan.reads)
    return replace(batch, plan=plan, rows=rows)


def _trimmed(commit: Commit, batch: Batch) -> Commit:
    own = batch.unpadded
    return commit if own is None else commit.first(own.committed, own.mails)
