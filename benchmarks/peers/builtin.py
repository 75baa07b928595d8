"""pyg_mspipe's own models, trained as its ``Trainer`` does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.harness.measure import Scores
from benchmarks.harness.stages import Stage, untimed
from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, DROPOUT, HEADS, LEARNING_RATE, NUM_NEIGHBORS
from pyg_mspipe import Batches, NeighborSampler, TemporalCSR
from pyg_mspipe.models import MemoryModel, TemporalModel
from pyg_mspipe.models.registry import MODELS
from pyg_mspipe.tasks import LinkMetrics, LinkPrediction, Objective, evaluate
from pyg_mspipe.training.config import Precision


class BuiltinModel:
    """A model with its batches."""

    def __init__(self, workload: Workload, model: MemoryModel, precision: Precision) -> None:
        self.workload = workload
        self.model = model
        task = LinkPrediction(model.embedding_dim)
        self.objective = Objective(model, task, bf16=precision == "bf16")
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=LEARNING_RATE, fused=True)
        csr = TemporalCSR.from_stream(workload.data, workload.num_nodes)
        self.sampler = NeighborSampler(csr, model.num_hops * [NUM_NEIGHBORS])
        self.batches = partial(Batches, make_plan=model.memory.make_plan, with_ends=model.embeds_ends)

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over the training events from an empty memory, and yields the loss of each batch."""
        work, memory = self.workload, self.model.memory
        batches = self.batches(work.data, work.train, work.batch_size, self.sampler, work.negatives)
        self.model.train()
        memory.state.clear(work.train.start)
        with _staged(memory, stage):
            for i, events in enumerate(work.batches(work.train)):
                with stage("sample"):
                    batch = batches.draw(events, epoch, i)
                with stage("gather"):
                    batch = batches.gather(batch)
                with stage("optimizer"):
                    self.optimizer.zero_grad()
                with stage("embedding"):
                    loss = self.objective(batch)
                with stage("update"), torch.no_grad():
                    self.model.update(batch)
                with stage("backward"):
                    loss.backward()
                with stage("optimizer"):
                    self.optimizer.step()
                yield loss.item()

    def evaluate(self) -> Scores:
        """Scores the validation events, going on from the memory that the last pass left behind."""
        work = self.workload
        begin = self.model.memory.state.span.begin
        draw = work.val_negatives
        batches = self.batches(work.data, work.val, work.batch_size, self.sampler, draw, memory_begin=begin)
        metrics = evaluate(self.objective, batches)
        assert isinstance(metrics, LinkMetrics)
        return Scores(ap=metrics.ap, auc=metrics.auc)


def start(workload: Workload, seed: int, *, precision: Precision = "fp32", model: str = "tgn") -> BuiltinModel:
    """Returns a model with the sizes of PyG's example.

    Args:
        workload: What to train on.
        seed: Of weights and dropout.
        precision: Of the large products.
        model: Its name.
    """
    torch.manual_seed(seed)
    sizes = {"memory_dim": DIM, "time_dim": DIM, "embedding_dim": DIM, "heads": HEADS, "dropout": DROPOUT}
    kind: Callable[..., TemporalModel] = MODELS[model]
    taken = {name: sizes[name] for name in sizes if name in inspect.signature(kind).parameters}
    made = kind(workload.num_nodes, workload.msg_dim, **taken)
    assert isinstance(made, MemoryModel)
    return BuiltinModel(workload, made, precision)


class _staged:  # noqa: N801 - used as a function
    """Counts a module's forward as the stage "memory", within the stage that calls it."""

    def __init__(self, module: torch.nn.Module, stage: Stage) -> None:
        self.module, self.stage = module, stage

    def __enter__(self) -> None:
        contexts = []

        def begin(module: torch.nn.Module, args: object) -> None:
            contexts.append(self.stage("memory"))
            contexts[-1].__enter__()

        def end(module: torch.nn.Module, args: object, out: object) -> None:
            contexts.pop().__exit__(None, None, None)

        self.hooks = (self.module.register_forward_pre_hook(begin), self.module.register_forward_hook(end))

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()
