"""pyg_mspipe's own TGN, trained as its ``Trainer`` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmarks.harness.measure import Scores
from benchmarks.harness.stages import Stage, untimed
from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, DROPOUT, HEADS, LEARNING_RATE, NUM_NEIGHBORS
from pyg_mspipe import TGN, Batch, Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.training import evaluate, link_loss
from pyg_mspipe.training.config import Precision
from pyg_mspipe.training.evaluation import scores


class BuiltinTGN:
    """The model with its batches."""

    def __init__(self, workload: Workload, model: TGN, precision: Precision) -> None:
        self.workload = workload
        self.model = model
        self.autocast = precision == "bf16"
        self.optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        self.sampler = NeighborSampler(TemporalCSR.from_stream(workload.data, workload.num_nodes), [NUM_NEIGHBORS])

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over the training events from an empty memory, and yields the loss of each batch."""
        work, model = self.workload, self.model
        batches = Batches(work.data, work.train, work.batch_size, self.sampler, work.negatives)
        model.train()
        model.state.clear(work.train.start)
        with _staged(model, stage):
            for i, events in enumerate(work.batches(work.train)):
                with stage("sample"):
                    batch = batches.draw(events, epoch, i)
                with stage("gather"):
                    batch = batches.gather(batch)
                with stage("optimizer"):
                    self.optimizer.zero_grad()
                with stage("embedding"), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                    loss = link_loss(scores(self.model, batch))
                with stage("update"):
                    model.state.apply(model.commit(batch))
                with stage("backward"):
                    loss.backward()
                with stage("optimizer"):
                    self.optimizer.step()
                yield loss.item()

    def evaluate(self) -> Scores:
        """Scores the validation events, going on from the memory that the last pass left behind."""
        work = self.workload
        begin = self.model.state.span.begin
        batches = Batches(work.data, work.val, work.batch_size, self.sampler, work.val_negatives, memory_begin=begin)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            metrics = evaluate(self.model, batches)
        return Scores(ap=metrics.ap, auc=metrics.auc)


def start(workload: Workload, seed: int, *, precision: Precision = "fp32") -> BuiltinTGN:
    """Returns the model with the sizes of PyG's example.

    Args:
        workload: What to train on.
        seed: Of weights and dropout.
        precision: Of the large products.
    """
    torch.manual_seed(seed)
    model = TGN(
        workload.num_nodes,
        workload.msg_dim,
        memory_dim=DIM,
        time_dim=DIM,
        embedding_dim=DIM,
        heads=HEADS,
        dropout=DROPOUT,
    )
    return BuiltinTGN(workload, model, precision)


@contextmanager
def _staged(model: TGN, stage: Stage) -> Iterator[None]:
    """Counts what ``forward`` does with node memory as the stage "memory", within the stage that calls it."""
    memory_of = model._memory_of

    def staged(batch: Batch) -> tuple[Tensor, Tensor]:
        with stage("memory"):
            return memory_of(batch)

    model._memory_of = staged  # type: ignore[method-assign]
    try:
        yield
    finally:
        model._memory_of = memory_of  # type: ignore[method-assign]
