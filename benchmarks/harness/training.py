"""A step of training, as all benchmarks of the built-in model take it."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_mspipe import TGN, Batch
from pyg_mspipe.training import link_loss
from pyg_mspipe.training.evaluation import scores


def train_step(model: TGN, optimizer: torch.optim.Optimizer, batch: Batch | None) -> Tensor:
    """Returns the loss of a gathered batch, after weights and memory were updated with it: Float32[]."""
    assert batch is not None
    optimizer.zero_grad()
    loss = link_loss(scores(model, batch))
    with torch.no_grad():
        model.memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    loss.backward()
    optimizer.step()
    return loss.detach()
