"""A step of training, as all benchmarks of the built-in model take it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_mspipe import TGN, Batch
from pyg_mspipe.memory import Commit
from pyg_mspipe.training import link_loss
from pyg_mspipe.training.evaluation import scores


def train_step(
    model: TGN, optimizer: torch.optim.Optimizer, batch: Batch, hand_over: Callable[[Commit], None] | None = None
) -> Tensor:
    """Returns the loss of a gathered batch, after weights and memory were updated with it: Float32[].

    Args:
        model: With its head.
        optimizer: Of its parameters.
        batch: With its rows, or they are read.
        hand_over: Takes the commit; by default it is applied to the state.
    """
    optimizer.zero_grad()
    loss = link_loss(scores(model, batch))
    (hand_over or model.state.apply)(model.commit(batch))
    loss.backward()
    optimizer.step()
    return loss.detach()
