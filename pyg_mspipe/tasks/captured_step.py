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
from pyg_mspipe.tasks.waits import NoWaits, WaitError

WARM_UP = 3
"""Steps that are taken one operation at a time before the first is recorded; of each size there is one such at least,
so that all libraries are ready."""

TakeStep = Callable[[Batch, Callable[[Commit], None]], Tensor]
"""Takes a training step on a batch with its features and rows, hands over its commit and returns its loss."""

Replay = Callable[[], Any]
"""Does again on the current stream what was recorded, and returns what that returned: the same tensors each time."""


def record(work: Callable[[], Any], stream: torch.cuda.Stream, pool: Any = None) -> tuple[Replay, Any]:
    """Returns a replay of work on a GPU, which is recorded and not done, and the memory pool of its tensors.

    Args:
        work: Launches the work; it may not wait for the device.
        stream: Where it is recorded; nothing else may use it.
        pool: The pool of an earlier record on the same stream, whose tensors it uses.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads go on with their own streams meanwhile.
    recorded = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    with torch.cuda.device(stream.device), recorded:
        made = work()

    def replay() -> Any:
        graph.replay()
        return made

    return replay, graph.pool()


class CapturedSteps:
    """Takes training steps on a GPU, where batches are padded as recorded CUDA graphs.

    The first steps of each size are taken as :func:`train_step` does, and all of batches that are not padded, that have
    fewer events than others, or that bring what repairs stale rows. A size is not recorded if a step of it, tried
    beforehand, waits for the device. A step is two graphs: what makes the new rows of node memory, which others wait
    for, and the rest.

    Args:
        objective: Model and task.
        optimizer: Updates the weights; one that can be recorded, such as ``Adam(..., capturable=True)``.
        batch_size: Events in a batch.
        stream: Where steps are recorded; nothing else may use it.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, batch_size: int, stream: torch.cuda.Stream) -> None:
        self._objective = objective
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._stream = stream
        self._taken = 0
        self._seen: set[Any] = set()
        self._steps: dict[Any, _Step | None] = {}  # none of a size that is not recorded
        self._learns = self._learning()

    def __call__(self, batch: Batch, commit: Callable[[Commit], None]) -> Tensor:
        """Returns the loss of a batch, after its gradients were computed and its commit made: Float32[].

        Args:
            batch: The batch, with its features and rows.
            commit: Takes the memory update.

        Raises:
            RuntimeError: If a step could not be recorded though nothing in it waits.
        """
        key = self._key(batch)
        step = self._steps.get(key)
        if step is not None:
            return step(batch, commit)
        self._taken += 1
        if key is None or key in self._steps:
            return self._eager(batch, commit)
        if key not in self._seen or self._taken <= WARM_UP:
            self._seen.add(key)
            return self._eager(batch, commit)
        refused = NoWaits()
        with refused:
            loss = self._eager(batch, commit)
        self._steps[key] = None
        if refused.found:
            warnings.warn(
                f"training steps of {self._objective.model.name} are launched one operation at a time and not as CUDA "
                f"graphs, since they wait for the device: {', '.join(refused.found)}",
                stacklevel=2,
            )
        elif self._knows_state():
            self._steps[key] = _Step(self._objective, self._optimizer, batch, self._stream)
        return loss

    def _eager(self, batch: Batch, commit: Callable[[Commit], None]) -> Tensor:
        return eager_step(self._objective, self._optimizer, batch, commit)

    def _key(self, batch: Batch) -> Any:
        """Returns what a recorded step depends on but for the values of tensors; none if a batch is not recorded."""
        rows = batch.rows
        if batch.padded is None or rows is None or rows.repair is not None or rows.missed is not None:
            return None
        if len(batch.events) != self._batch_size or not batch.query_t.numel():
            return None
        if self._learning() != self._learns:
            # What was recorded would go on as it was.
            self._learns = self._learning()
            self._steps.clear()
        return tuple((x.shape, x.dtype) for x in tensors_of(_inputs(batch)))

    def _learning(self) -> tuple[Any, ...]:
        """Returns the settings of the optimizer, and where it keeps what it knows."""
        kept: dict[str, Any] = next(iter(self._optimizer.state.values()), {})
        return (
            *(tuple((name, x) for name, x in group.items() if name != "params") for group in self._groups()),
            *(id(x) for x in kept.values() if isinstance(x, Tensor)),
        )

    def _groups(self) -> Sequence[dict[str, Any]]:
        return self._optimizer.param_groups

    def _knows_state(self) -> bool:
        """Returns whether the optimizer knows all weights that have a gradient: it could not begin with one later."""
        learned = (x for group in self._groups() for x in group["params"] if x.grad is not None)
        return all(x in self._optimizer.state for x in learned)


class _Unknown:
    """Stands in a recorded step for a number that is another one in each batch; it is of no use but to be handed on."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise WaitError("a step reads a number of its batch that no tensor holds")

    def __bool__(self) -> bool:
        return self == 0


class _Count:
    """Stands for the events of all batches of a size, of which a recorded step may know nothing but the number."""

    stop = _Unknown()

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
        stream: Where it is recorded.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, batch: Batch, stream: torch.cuda.Stream) -> None:
        self._batch = map_tensors(replace(_inputs(batch), events=cast("range", _Count(len(batch.events)))), torch.clone)
        self._tensors = list(tensors_of(self._batch))
        self._objective, self._optimizer = objective, optimizer
        self._loss: Tensor | None = None
        optimizer.zero_grad()
        try:
            self._forward, pool = record(self._make_rows, stream)
            self._rest, _ = record(self._learn, stream, pool)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise RuntimeError(
                f"a training step of {objective.model.name} cannot be recorded as a CUDA graph: {error}; let the model "
                f"say paddable = False"
            ) from error

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
    """Returns the part of a batch that training reads, without numbers that are others in each batch."""
    plan, rows = batch.plan, batch.rows
    if plan is not None:
        plan = replace(plan, met={}, drawn=None, t=cast("int", _Count.stop))
    if rows is not None:
        rows = replace(rows, met={}, reads={} if plan is None else plan.reads)
    return replace(batch, plan=plan, rows=rows, unpadded=None, padded=None)


def _trimmed(commit: Commit, batch: Batch) -> Commit:
    own = batch.unpadded
    if own is None:
        return commit
    if own.committed and not commit.is_of_ends:
        raise RuntimeError(
            "the model commits other nodes than the ends of the batch's events, and a padded batch does not tell these "
            "from what was added to it; let the model say paddable = False"
        )
    return commit.first(own.committed, own.mails)
