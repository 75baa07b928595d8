"""Training of a run's static node vectors, before the run itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from rich.console import Console
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.distributed.random_state import random_state, set_random_state
from pyg_mspipe.graph import TemporalCSR
from pyg_mspipe.models import StaticModel
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.tasks import DivergedError, Objective, Task, train_step
from pyg_mspipe.tasks.objective import LOSS_BLOCK
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.events import Advanced, PartBegun
from pyg_mspipe.training.features import RunFeatures
from pyg_mspipe.training.interrupt import Interrupted, StopRequest, interruptible
from pyg_mspipe.training.making import make_task
from pyg_mspipe.training.progress_bar import ProgressBar
from pyg_mspipe.training.sampling import negative_sampler, neighbor_sampler

# Independent of the run's batch size, so that runs of all batch sizes have the same vectors.
_BATCH_SIZE = 1000
_MIN_BATCHES = 50  # for short streams, whose batches are smaller
# The vectors' learning rate is larger: a vector is updated only as often as its node occurs.
_VECTOR_LR = 10
# The negatives' purpose; the run's training, validation and test have 0, 1 and 2.
_NEGATIVES = 3


def pretrain(
    data: TemporalData,
    num_nodes: int,
    config: TrainConfig,
    features: RunFeatures | None = None,
    *,
    device: torch.device | None = None,
    make: Callable[[int], Task] | None = None,
    console: Console | None = None,
) -> Tensor:
    """Returns static node vectors, Float32[N, static_dim], trained on the task of a run.

    A :class:`~pyg_mspipe.models.StaticModel` is trained with the sizes, the sampling and the seed of the run. Its
    batches come in random order; each sees only events before it. Events and settings decide every number, and torch's
    random state is afterwards what it was before.

    Args:
        data: The training events alone.
        num_nodes: Number of nodes ``N``; a node without events gets zeros.
        config: The run's settings.
        features: The run's features beside the stream, if any.
        device: Where to train; by default where the events are.
        make: Makes the run's task for embeddings of a width; by default the settings' one, without labels.
        console: Where progress is shown; by default nowhere.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM; nothing is kept.
        DivergedError: If the loss is no longer a finite number.
    """
    device, features = device or data.src.device, features or RunFeatures()
    outside = random_state(device)
    torch.manual_seed(config.seed)
    known = torch.zeros(num_nodes, dtype=torch.bool)
    known[torch.cat([data.src, data.dst]).cpu()] = True
    sizes = {"node_dim": features.node_dim, "static_dim": config.static_dim, **config.attention()}
    try:
        with interruptible() as request, ProgressBar(console or Console(quiet=True), config.static_epochs) as bar:
            model = StaticModel(known, features.msg_dim(data), **sizes)
            made = make_task(config, model.embedding_dim) if make is None else make(model.embedding_dim)
            objective = Objective(model, made).to(device)
            batches = _batches(data, num_nodes, config, features, objective.task, device)
            vectors: Tensor = model.vectors.weight
            _train(objective, vectors, batches, config, request, bar)
            return vectors.detach()
    finally:
        set_random_state(device, outside)


def _train(
    objective: Objective, vectors: Tensor, batches: Batches, config: TrainConfig, request: StopRequest, bar: ProgressBar
) -> None:
    others = [parameter for parameter in objective.parameters() if parameter is not vectors]
    optimizers = (
        torch.optim.SparseAdam([vectors], lr=_VECTOR_LR * config.lr),
        torch.optim.Adam(others, lr=config.lr),
    )
    generator = torch.Generator().manual_seed(config.seed)
    for epoch in range(config.static_epochs):
        order = torch.randperm(len(batches), generator=generator).tolist()
        bar(PartBegun("static memory", epoch, len(batches.events)))
        loss_sum, done = 0.0, 0
        for first in range(0, len(order), LOSS_BLOCK):
            losses, events, items = [], 0, 0
            for index in order[first : first + LOSS_BLOCK]:
                if request.made:
                    raise Interrupted
                trained = batches.events_of(index)
                size, events = objective.task.count(trained), events + len(trained)
                losses.append(train_step(objective, batches.read(epoch, index), optimizers) * size)
                items += size
            loss_sum, done = loss_sum + float(torch.stack(losses).sum()), done + items
            if not math.isfinite(loss_sum):
                raise DivergedError(
                    f"static memory, epoch {epoch + 1}: the loss is not a finite number; lower lr, which is "
                    f"{config.lr}, or scale msg"
                )
            bar(Advanced(events, loss_sum / max(done, 1)))


def _batches(
    data: TemporalData,
    num_nodes: int,
    config: TrainConfig,
    features: RunFeatures,
    task: Task,
    device: torch.device,
) -> Batches:
    negatives = None
    if task.negatives:
        negatives = negative_sampler(config, data, data.num_events, num_nodes, _NEGATIVES, task.negatives)
    sampler = neighbor_sampler(config, TemporalCSR.from_stream(data, num_nodes), config.layers)
    size = min(_BATCH_SIZE, -(-data.num_events // _MIN_BATCHES))
    return Batches(
        data,
        range(data.num_events),
        size,
        sampler,
        negatives,
        ask=task.queries,
        labels=None if task.labels is None else task.labels.to(data.src.device),
        cut_at_labels=task.cuts_at_labels,
        cut_off=config.cut_off,
        msg=features.events or TensorFeatures(data.msg.to(device)),
        node_features=features.nodes,
        device=device,
        make_plan=None,
    )
