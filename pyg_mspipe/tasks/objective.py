"""A model and a task together, and one step of training them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from pyg_mspipe.memory import NodeMemory
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.tasks.task import Task

if TYPE_CHECKING:
    from typing_extensions import Self


class Objective(Module):
    """A model and a task as one module: from a batch to its loss, or to its scores.

    Args:
        model: Embeds the queries.
        task: Makes loss and scores of the embeddings.
        bf16: Whether the large products are computed in bfloat16.
        frozen: Whether the model's weights stay as they are and only the task's are trained; nothing in the model is
            dropped out then.
    """

    def __init__(self, model: TemporalModel, task: Task, *, bf16: bool = False, frozen: bool = False) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.bf16 = bf16
        self.frozen = frozen
        if frozen:
            model.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode and returns this module.

        Layers of a frozen model stay in evaluation mode; its memory does not.

        Args:
            mode: Whether it is training mode.
        """
        super().train(mode)
        if self.frozen:
            for module in self.model.modules():
                module.training = mode and isinstance(module, TemporalModel | NodeMemory)
        return self

    def with_model(self, model: TemporalModel) -> Objective:
        """Returns another model with the same task and settings.

        Args:
            model: Such as one with another state of its memory.
        """
        return Objective(model, self.task, bf16=self.bf16, frozen=self.frozen)

    def forward(self, batch: Batch | None) -> Tensor:
        """Returns the loss of a batch, Float32[]; without one a zero that all parameters have a gradient of zero from.

        Args:
            batch: The batch, with its features gathered.
        """
        if batch is None:
            return torch.stack([(x * 0).sum() for x in self.parameters() if x.requires_grad]).sum()
        return self._of(batch, self.task.loss)

    def scores(self, batch: Batch) -> Tensor:
        """Returns the task's scores of a batch: [...], see :meth:`Task.scores`.

        Args:
            batch: The batch, with its features gathered.
        """
        return self._of(batch, self.task.scores)

    def score_pairs(self, batch: Batch) -> Tensor:
        """Returns the task's score of each pair that is asked about: Float32[n], see :meth:`Task.score_pairs`.

        Args:
            batch: What :meth:`Batches.ask` gives for ``n`` pairs.
        """

        def head(z: Tensor, batch: Batch) -> Tensor:
            src, dst = z.chunk(2)
            return self.task.score_pairs(src, dst, batch)

        return self._of(batch, head)

    def embed(self, batch: Batch) -> Tensor:
        """Returns the embedding of each query of a batch: [Q, embedding_dim].

        Args:
            batch: The batch, with its features gathered.
        """
        return self._of(batch, lambda z, _: z)

    def _of(self, batch: Batch, head: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        with self.autocast(batch.src.device):
            if not self.task.common_neighbors:
                return head(self.model(batch), batch)
            z, rows = self.model.embed_with_rows(batch)
            return head(z, replace(batch, node_rows=rows))

    def autocast(self, device: torch.device) -> torch.autocast:
        """Returns a context in which the large products are computed as this module wants them, of weights as they are.

        Args:
            device: On which they are computed.
        """
        if self.bf16:
            # Torch forgets casts of weights when it leaves the outermost autocast, which it mistakes in a thread where
            # a Ctrl-C once came in between: what is trained would then be computed with weights of long ago.
            torch.clear_autocast_cache()
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)


LOSS_BLOCK = 20
"""Losses are fetched from the device this many batches at a time."""


def train_step(
    objective: Module,
    batch: Batch,
    optimizers: Sequence[Optimizer] = (),
    *,
    commit: Callable[[Batch], None] | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Returns the loss of a batch, after its gradients were computed and its commit made: Float32[].

    The commit comes before the backward pass, as others may wait for it. A batch that asks nothing is only committed.

    Args:
        objective: An :class:`Objective`, or a module that wraps one.
        batch: The batch, with its features gathered.
        optimizers: Update the weights; without any the gradients are added to those that the weights have.
        commit: Updates the memory with the batch, such as a model's own; without it the memory stays.
        weight: The weight of the loss, such as the batch's share of a larger one.
    """
    if not batch.query_t.numel():
        if commit is not None:
            with torch.no_grad():
                commit(batch)
        return torch.zeros((), device=batch.src.device)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss: Tensor = objective(batch)
    if weight != 1.0:
        loss = loss * weight
    if commit is not None:
        with torch.no_grad():
            commit(batch)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.detach()
