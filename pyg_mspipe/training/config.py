"""All settings of a training run: one dataclass behind the flags, the TOML file and the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pyg_mspipe._choices import (
    BestBy,
    ClassWeights,
    CutOff,
    HeadName,
    LossName,
    MitigationName,
    ModelName,
    Overlap,
    ProtocolName,
    Strategy,
    TaskName,
    TimeInit,
    check_class_name,
)
from pyg_mspipe.distributed.plan import ParallelPlan
from pyg_mspipe.pipeline.scheduler import parse_staleness

Precision = Literal["fp32", "bf16"]
Negatives = Literal["destinations", "nodes", "historical"]
TimeReference = Literal["start", "gaps"]
LrScaling = Literal["linear", "sqrt", "none"]


class ConfigError(ValueError):
    """A setting that cannot be used, with how to mend it."""


def _setting(default: Any, help_text: str, group: str, low: float = -math.inf) -> Any:
    return field(default=default, metadata={"help": help_text, "group": group, "low": low})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; each is a flag of ``mspipe train`` and a key of its TOML file.

    Raises:
        ConfigError: If a setting has the wrong type or is out of range.
    """

    epochs: int = _setting(10, "Passes over the training events.", "Training", 1)
    batch_size: int = _setting(200, "Events in a batch.", "Training", 1)
    lr: float = _setting(1e-3, "Learning rate of Adam.", "Training", 0)
    patience: int = _setting(
        5, "Stop after this many epochs without a better validation; 0 never stops.", "Training", 0
    )
    seed: int = _setting(0, "Decides initial weights, negatives, dropout and uniform sampling.", "Training", 0)
    precision: Precision = _setting("fp32", "bf16 computes the large products in bfloat16.", "Training")
    task: str = _setting(
        "link", "The task: link, node, edge, property, or FILE.py:CLASS for a task of your own.", "Training"
    )
    labels: str = _setting(
        "", "A file of labels with nodes and times of their own: columns node, t and y (or y_0, y_1 ...).", "Training"
    )
    class_weights: ClassWeights = _setting(
        "none", "Whether labels of rare classes weigh more in the loss: none or balanced.", "Training"
    )
    head: HeadName = _setting(
        "mlp", "What scores a link: mlp reads embeddings, common also the neighbours in common.", "Training"
    )
    pair_features: bool = _setting(
        False, "Let scores of links read when and how often the pair met, and each end was active.", "Training"
    )
    loss: LossName = _setting(
        "bce", "bce tells events and negatives apart one by one, softmax each event among its negatives.", "Training"
    )
    embeddings: str = _setting(
        "", "The folder of a run whose model embeds and stays as it is; only the task's head is trained.", "Training"
    )
    device: str = _setting("auto", "cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.", "Training")
    threads: int = _setting(0, "CPU threads of torch; 0 leaves its default.", "Training", 0)

    model: str = _setting(
        "tgn", "The model: tgn, jodie, dyrep, apan, tgat, or FILE.py:CLASS for a model of your own.", "Model"
    )
    memory_dim: int = _setting(100, "Width of the node memory.", "Model", 1)
    time_dim: int = _setting(100, "Width of the time encoding.", "Model", 1)
    embedding_dim: int = _setting(100, "Width of the embeddings.", "Model", 1)
    layers: int = _setting(1, "Attention layers, and hops that are sampled.", "Model", 1)
    heads: int = _setting(2, "Attention heads.", "Model", 1)
    dropout: float = _setting(0.1, "Dropout of the attention weights.", "Model", 0)
    time_init: TimeInit = _setting("random", "Initial weights of the time encoder.", "Model")
    time_reference: TimeReference = _setting(
        "start", "What JODIE measures idle time by: the time since the stream's start, or the usual gaps.", "Model"
    )
    static_dim: int = _setting(
        0, "Width of static node vectors, trained before the run and added to the memory; 0: none.", "Model", 0
    )
    static_epochs: int = _setting(5, "Passes that train the static node vectors.", "Model", 1)
    static_dropout: float = _setting(0.3, "Share of static vectors that training sets to zero.", "Model", 0)

    num_neighbors: int = _setting(10, "Neighbours sampled for a node in each hop.", "Sampling", 1)
    strategy: Strategy = _setting("recent", "Sample the last neighbours, or draw uniformly from all.", "Sampling")
    cut_off: CutOff = _setting(
        "batch", "Which events a query sees: those before its batch, or before its own time.", "Sampling"
    )
    negatives: Negatives = _setting(
        "destinations",
        "Draw negatives from the destinations' range, from all nodes, or, historical, in training half of them from "
        "what the source has met, and otherwise from the destinations' range.",
        "Sampling",
    )
    train_negatives: int = _setting(1, "Negatives for each event in training.", "Sampling", 1)
    protocol: ProtocolName = _setting(
        "random",
        "What events are ranked among: random destinations, historical or inductive pairs, or lists by TGB's rule.",
        "Evaluation",
    )
    eval_negatives: int = _setting(
        10, "Negatives for each event in evaluation; AP and AUC use the first.", "Evaluation", 1
    )
    filtered: bool = _setting(
        False, "Leave out negatives that are true events at the event's time; tgb always does.", "Evaluation"
    )
    best_by: BestBy = _setting(
        "ap", "The metric of the best epoch of link prediction: ap, auc, mrr or hits_10.", "Evaluation"
    )

    staleness: str = _setting(
        "exact",
        "How far memory may lag behind: sequential (no overlap), exact (the same numbers, overlapped), "
        "minimal (as little as full speed needs), or a whole number of commits.",
        "Pipeline",
    )
    mitigation: MitigationName = _setting("none", "How to repair memory that lags behind.", "Pipeline")
    prefetch: int = _setting(3, "Batches prepared ahead of training.", "Pipeline", 1)
    overlap: Overlap = _setting(
        "auto",
        "Prepare batches during training; auto does so with a GPU, an idle core, or a slow disk.",
        "Pipeline",
    )
    timeline: str = _setting(
        "", "Write the first epoch's timeline, a Chrome trace, to this file; other ranks write beside it.", "Pipeline"
    )

    parallel: str = _setting(
        "1x1x1",
        "Trainers i x j x k, one process each: i share a batch, j take turns at a memory, and there are k memories.",
        "Parallel",
    )
    lr_scaling: LrScaling = _setting("linear", "How lr grows with the number of trainers.", "Parallel")
    timeout: float = _setting(600, "Seconds after which a process that does not answer is given up.", "Parallel", 1)

    val_ratio: float = _setting(0.15, "Share of events for validation.", "Split", 0)
    test_ratio: float = _setting(0.15, "Share of events for the test.", "Split", 0)
    val_time: int | None = _setting(
        None, "First time of validation, in the stream's unit; needs test-time and replaces the shares.", "Split"
    )
    test_time: int | None = _setting(None, "First time of the test.", "Split")

    checkpoint_every: int = _setting(500, "Batches between checkpoints in an epoch; 0: only at its end.", "Output", 0)
    tensorboard: bool = _setting(True, "Write TensorBoard files where tensorboard is installed.", "Output")

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for setting in fields(self):
            value, kind = getattr(self, setting.name), hints[setting.name]
            if get_origin(kind) is UnionType:
                if value is None:
                    continue
                kind = get_args(kind)[0]
            if get_origin(kind) is Literal:
                if value not in get_args(kind):
                    raise ConfigError(f"{setting.name} is {value!r}; choose one of {', '.join(get_args(kind))}")
                continue
            if setting.name == "staleness" or (setting.name == "parallel" and type(value) is str):
                parse: Callable[[str], object] = parse_staleness if setting.name == "staleness" else ParallelPlan.parse
                try:
                    value = parse(value)
                except ValueError as error:
                    raise ConfigError(str(error)) from error
                object.__setattr__(self, setting.name, str(value))
                continue
            if setting.name == "timeline" and isinstance(value, Path):
                object.__setattr__(self, "timeline", str(value))
            elif kind is float and type(value) is int:
                object.__setattr__(self, setting.name, float(value))
            elif type(value) is not kind:
                raise ConfigError(f"{setting.name} is {value!r}; give {_A_KIND[kind]}")
            if kind in (int, float) and not setting.metadata["low"] <= value < math.inf:
                raise ConfigError(f"{setting.name} is {value}; give a number from {setting.metadata['low']}")
            if kind is int and not -(2**63) <= value < 2**63:
                raise ConfigError(f"{setting.name} is {value}; give a number below 2**63")
        try:
            check_class_name("model", self.model, get_args(ModelName))
            check_class_name("task", self.task, get_args(TaskName))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if self.embedding_dim % self.heads:
            raise ConfigError(
                f"embedding_dim {self.embedding_dim} is not a multiple of heads {self.heads}; change either"
            )
        plan = self.plan
        if plan.group_size > 1 and (self.staleness not in ("sequential", "exact", "minimal")):
            raise ConfigError(
                f"staleness {self.staleness} with {plan.group_size} trainers on one memory: they read it in turns, "
                f"without staleness; choose exact, or a plan of 1x1xk"
            )
        if plan.group_size > 1 and self.mitigation != "none":
            raise ConfigError(
                f"mitigation {self.mitigation} has nothing to repair where {plan.group_size} trainers share a memory "
                f"and read it in turns; choose none, or a plan of 1x1xk"
            )
        if self.static_dim and not self.lr:
            raise ConfigError("static_dim needs an lr above 0 to train its vectors; change either")
        for name in ("dropout", "static_dropout"):
            if getattr(self, name) >= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number from 0 to below 1")

    @property
    def plan(self) -> ParallelPlan:
        """The plan that ``parallel`` names."""
        return ParallelPlan.parse(self.parallel)

    def split(self) -> dict[str, Any]:
        """Returns the arguments of :func:`split_stream`."""
        return {name: getattr(self, name) for name in ("val_ratio", "test_ratio", "val_time", "test_time")}

    def attention(self) -> dict[str, Any]:
        """Returns the settings of attention over neighbours, as the arguments of a model's constructor."""
        return {
            "time_dim": self.time_dim,
            "embedding_dim": self.embedding_dim,
            "num_layers": self.layers,
            "heads": self.heads,
            "dropout": self.dropout,
            "time_init": self.time_init,
        }


_A_KIND = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
