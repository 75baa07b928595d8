"""A task of your own for ``mspipe train``: what an event's first feature is, told from its two nodes before it.

    mspipe train synthetic --task examples/own_task.py:FirstFeature

A trainer calls the class with the width of the embeddings and those settings that it names.
"""

from dataclasses import dataclass

import torch
from torch.nn import Linear
from torch.nn.functional import mse_loss

from pyg_mspipe.tasks import Metrics, Task


@dataclass(frozen=True)
class Fit(Metrics):
    """How much of the feature's variance is explained."""

    r2: float


class FirstFeature(Task):
    best = "r2"  # chooses the best epoch; larger is better
    best_label = "R2"

    def __init__(self, embedding_dim):
        super().__init__()
        self.lin = Linear(2 * embedding_dim, 1)

    def loss(self, z, batch):
        found, truth = self.scores(z, batch)
        return mse_loss(found, truth)

    def scores(self, z, batch):
        src, dst, _ = z.split(len(batch.events))  # the queries are sources, destinations and one negative each
        found = self.lin(torch.cat([src, dst], dim=-1)).squeeze(-1)
        return torch.stack([found, batch.msg[:, 0]])  # [2, B]

    def metrics(self, scores, events, groups=None):
        found, truth = torch.cat(list(scores), dim=1)
        return Fit(r2=float(1 - mse_loss(found, truth) / truth.var(correction=0)))
