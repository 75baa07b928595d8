"""The training loop of PyG's ``examples/tgn.py``: memory, attention and link predictor, one batch after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Generic, Protocol, TypeVar

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from benchmarks.harness.measure import Scores
from benchmarks.harness.stages import Stage, untimed
from benchmarks.harness.workload import Workload
from pyg_mspipe.data import NegativeSampler

DIM = 100  # of memory, time encoding and embedding
NUM_NEIGHBORS = 10
HEADS = 2
DROPOUT = 0.1
LEARNING_RATE = 1e-4

B = TypeVar("B")


class Memory(Protocol):
    """What the loop asks of a node memory; PyG's ``TGNMemory`` has it."""

    @property
    def time_enc(self) -> Module: ...
    def __call__(self, n_id: Tensor) -> tuple[Tensor, Tensor]: ...
    def update_state(self, src: Tensor, dst: Tensor, t: Tensor, raw_msg: Tensor) -> None: ...
    def reset_state(self) -> None: ...
    def detach(self) -> None: ...
    def train(self, mode: bool = True) -> object: ...
    def to(self, device: torch.device) -> object: ...
    def parameters(self) -> Iterator[Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, Parameter]]: ...


class LinkLoop(ABC, Generic[B]):
    """Trains modules of some library on its own batches ``B``.

    Args:
        workload: What to train on.
        memory: The node memory.
        others: The other modules that are trained.
    """

    def __init__(self, workload: Workload, memory: Memory, others: Sequence[Module]) -> None:
        self.workload = workload
        self.memory = memory
        self._modules: list[Memory | Module] = [memory, *others]
        self.optimizer = self._optimizer()

    @abstractmethod
    def reset(self) -> None:
        """Forgets all neighbours."""

    @abstractmethod
    def batches(self, events: range, negatives: NegativeSampler, epoch: int, stage: Stage) -> Iterator[B]:
        """Yields the batches of some events, with negatives; times the stages that this is."""

    @abstractmethod
    def predict(self, batch: B, stage: Stage) -> tuple[Tensor, Tensor]:
        """Returns the logits of a batch's events and of its negatives."""

    @abstractmethod
    def take_in(self, batch: B, stage: Stage) -> None:
        """Updates memory and neighbours."""

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over the training events from an empty memory, and yields the loss of each batch."""
        self._set_training(True)
        self.memory.reset_state()
        self.reset()
        for batch in self.batches(self.workload.train, self.workload.negatives, epoch, stage):
            with stage("optimizer"):
                self.optimizer.zero_grad()
            pos, neg = self.predict(batch, stage)
            with stage("embedding"):
                loss = bce(pos, torch.ones_like(pos)) + bce(neg, torch.zeros_like(neg))
            self.take_in(batch, stage)
            with stage("backward"):
                loss.backward()
            with stage("optimizer"):
                self.optimizer.step()
                self.memory.detach()
            yield loss.item()

    @torch.no_grad()
    def evaluate(self) -> Scores:
        """Scores the validation events, going on from the memory that the last pass left behind."""
        self._set_training(False)
        aps, aucs = [], []
        for batch in self.batches(self.workload.val, self.workload.val_negatives, 0, untimed):
            pos, neg = self.predict(batch, untimed)
            y_true = torch.cat([torch.ones(len(pos)), torch.zeros(len(neg))])
            y_pred = torch.cat([pos, neg]).sigmoid()
            aps.append(average_precision_score(y_true, y_pred))
            aucs.append(roc_auc_score(y_true, y_pred))
            self.take_in(batch, untimed)
        return Scores(ap=fmean(aps), auc=fmean(aucs))

    def to(self, device: torch.device) -> None:
        """Moves the modules to a device, before they are trained."""
        for module in self._modules:
            module.to(device)
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.Optimizer:
        # The time encoder belongs to two of them.
        parameters = dict.fromkeys(p for module in self._modules for p in module.parameters())
        return torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def _set_training(self, mode: bool) -> None:
        for module in self._modules:
            module.train(mode)
