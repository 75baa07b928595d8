"""The parts of a run, made from its settings: device, model, task, samplers, mitigation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch.optim import Optimizer
from torch_geometric.data import TemporalData

from pyg_mspipe.data import EventGroups, Labels, StreamSplit
from pyg_mspipe.distributed.executor import Job
from pyg_mspipe.graph import similar_nodes
from pyg_mspipe.graph.similar_nodes import load_or_compute
from pyg_mspipe.memory import Mitigation, StaticMemory, make_mitigation
from pyg_mspipe.models import TemporalModel, gap_statistics
from pyg_mspipe.models.registry import find_model
from pyg_mspipe.pipeline import Batches, BatchRecord, parse_staleness
from pyg_mspipe.pipeline.overlap import parse_overlap
from pyg_mspipe.tasks import Objective, Task
from pyg_mspipe.tasks.registry import find_task
from pyg_mspipe.training.config import ConfigError, TrainConfig

T = TypeVar("T")
_LR_POWER = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}
MakeModel = Callable[..., TemporalModel]
"""A model's class or a function that makes one: called with the number of nodes, the messages' width and settings."""

MakeTask = Callable[..., Task]
"""A task's class or a function that makes one: called with the width of the embeddings and settings."""


def check_classes(config: TrainConfig) -> None:
    """Refuses settings whose model or task does not exist, or do not go together, before the stream is read.

    Args:
        config: The run's settings.

    Raises:
        ConfigError: If the model or the task does not exist.
    """
    try:
        model = find_model(config.model)
        find_task(config.task)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if config.mitigation != "none" and not takes(model, "mitigation"):
        raise ConfigError(
            f"model {config.model} takes no mitigation; add it to the arguments of its constructor, or choose none"
        )


def make_objective(
    config: TrainConfig,
    num_nodes: int,
    msg_dim: int,
    *,
    train: TemporalData,
    labels: Labels | None = None,
    split: StreamSplit | None = None,
    node_dim: int = 0,
    model: MakeModel | None = None,
    task: MakeTask | None = None,
    mitigation: Mitigation | None = None,
    memory_device: str | None = None,
) -> Objective:
    """Returns model and task of a run, with their first weights.

    Args:
        config: The run's settings.
        num_nodes: Number of nodes.
        msg_dim: Width of the events' messages.
        train: The training events.
        labels: The labels of the run, if it has any.
        split: The parts of the stream.
        node_dim: Width of the nodes' features; 0 without any.
        model: Makes the model, instead of the settings' one.
        task: Makes the task, instead of the settings' one.
        mitigation: The memory's mitigation, if any.
        memory_device: The device of node memory, if it is not that of the weights.

    Raises:
        ConfigError: If there is no such model or task, or it does not take what the settings want.
    """
    settings = {"memory_dim": config.memory_dim, "node_dim": 0, "memory_device": memory_device, **config.attention()}
    needed: dict[str, Any] = {"mitigation": mitigation}
    if node_dim:
        needed["node_dim"] = node_dim
    if config.time_reference == "gaps":
        needed["gaps"] = gap_statistics(train.src, train.dst, train.t, num_nodes)
    try:
        made = _made(model or find_model(config.model), "model", settings, needed, num_nodes, msg_dim)
        if memory_device is not None and made.memory is not None and made.memory.memory_device is None:
            raise ConfigError(
                f"model {made.name} does not keep its memory on {memory_device}, as this run needs it; let its "
                f"constructor take memory_device, or run without"
            )
        done = make_task(config, made.embedding_dim, task, labels=labels, split=split, row_dim=made.row_dim)
        if config.static_dim:
            # Made last, so that all other weights start as they do without static memory.
            static = StaticMemory(num_nodes, config.static_dim, config.memory_dim, dropout=config.static_dropout)
            made.join_static(static)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Objective(made, done, bf16=config.precision == "bf16", frozen=bool(config.embeddings))


def make_job(
    config: TrainConfig,
    objective: Objective,
    optimizer: Optimizer,
    train: Batches,
    val: Batches,
    groups: EventGroups,
    on_record: Callable[[int, BatchRecord], None],
) -> Job:
    """Returns what an executor is to train.

    Args:
        config: The run's settings.
        objective: Model and task.
        optimizer: Of their weights.
        train: The batches of the training events.
        val: The batches of the validation events.
        groups: The groups of the stream's events, that metrics are told apart by.
        on_record: Called for each batch that the pipeline has finished.
    """
    return Job(
        objective=objective,
        optimizer=optimizer,
        train=train,
        val=val,
        groups=groups,
        plan=config.plan,
        staleness=parse_staleness(config.staleness),
        prefetch=config.prefetch,
        overlap=parse_overlap(config.overlap),
        seed=config.seed,
        timeout=config.timeout,
        on_record=on_record,
    )


def make_task(
    config: TrainConfig,
    embedding_dim: int,
    task: MakeTask | None = None,
    *,
    labels: Labels | None = None,
    split: StreamSplit | None = None,
    row_dim: int | None = None,
) -> Task:
    """Returns the task of a run, with its first weights.

    Args:
        config: The run's settings.
        embedding_dim: Width of the embeddings.
        task: Makes the task, instead of the settings' one.
        labels: The labels of the run, if it has any.
        split: The parts of the stream.
        row_dim: Width of the rows of nodes that the model hands out; by default there are no batches that bring more of
            pairs than embeddings, and scores read these alone.

    Raises:
        ConfigError: If the task does not take what the settings want.
    """
    settings = {
        "eval_negatives": config.eval_negatives,
        "best_by": config.best_by,
        "labels": labels,
        "split": split,
        "row_dim": row_dim or 0,
    }
    usual, wanted = TrainConfig(), ["class_weights", "best_by", "train_negatives", "loss"]
    if row_dim is not None:
        wanted += ["head", "pair_features"]
    # What was asked for and has no effect is a mistake.
    needed = {name: getattr(config, name) for name in wanted if getattr(config, name) != getattr(usual, name)}
    made = _made(task or find_task(config.task), "task", settings, needed, embedding_dim)
    if config.negatives == "historical" and not made.negatives:
        raise ConfigError(f"task {made.name} draws no negatives in training; leave out negatives historical")
    return made


def without_meaning(config: TrainConfig, model: TemporalModel) -> list[str]:
    """Returns the settings that were changed from their defaults though the model has nothing of the kind.

    Args:
        config: The run's settings.
        model: The run's model.
    """
    usual = TrainConfig()
    both = ({"memory_dim": each.memory_dim, **each.attention()} for each in (config, usual))
    own, default = both
    changed = [name for name in own if own[name] != default[name] and not takes(type(model), name)]
    if model.num_hops == 0:
        # Common neighbours are looked up for the head, whatever the model samples.
        sampling = ("strategy",) if config.head == "common" else ("num_neighbors", "strategy")
        changed += [name for name in sampling if getattr(config, name) != getattr(usual, name)]
    return ["layers" if name == "num_layers" else name for name in changed]


def takes(make: Callable[..., object], name: str) -> bool:
    """Returns whether a class or function takes an argument by a name.

    Args:
        make: The class or function.
        name: The argument's.
    """
    parameters = inspect.signature(make).parameters
    return name in parameters or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())


def _made(make: Callable[..., T], what: str, settings: dict[str, Any], needed: dict[str, Any], *args: Any) -> T:
    """Returns ``make(*args, ...)`` with those of the settings that its parameters name."""
    for name, value in needed.items():
        if value is not None and not takes(make, name):
            raise ConfigError(
                f"{what} {getattr(make, '__name__', make)} takes no {name}, which this run needs; add it to the "
                f"arguments of its constructor, or run without"
            )
    given = settings | needed
    return make(*args, **{name: value for name, value in given.items() if takes(make, name)})


def learning_rate(config: TrainConfig) -> float:
    """Returns the learning rate of a run, scaled with the number of its trainers.

    Args:
        config: The run's settings.
    """
    return config.lr * float(config.plan.world ** _LR_POWER[config.lr_scaling])


def mitigation_of(
    config: TrainConfig, train: TemporalData, num_nodes: int, *, stream: str, cache: Path | None
) -> Mitigation | None:
    """Returns the mitigation that the settings name.

    Args:
        config: The run's settings.
        train: The training events, from which similar nodes are found.
        num_nodes: Number of nodes.
        stream: Fingerprint of the stream.
        cache: The file that keeps similar nodes for the next run.
    """
    name = config.mitigation
    if name == "none":
        return None
    similar = None
    if name in ("similarity", "gated"):
        src, dst = train.src.cpu(), train.dst.cpu()
        if cache is None:
            similar = similar_nodes(src, dst, num_nodes)
        else:
            similar = load_or_compute(cache, src, dst, num_nodes, fingerprint=stream)
    return make_mitigation(name, num_nodes=num_nodes, memory_dim=config.memory_dim, similar=similar)
