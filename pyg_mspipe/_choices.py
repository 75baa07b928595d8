"""What settings choose from by name, for all layers; the command line shows it without loading PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

ModelName = Literal["tgn", "jodie", "dyrep", "apan", "tgat"]
"""The built-in models."""

TaskName = Literal["link", "node", "edge", "property"]
"""The built-in tasks."""

HeadName = Literal["mlp", "common"]
"""What scores a pair of nodes: their embeddings alone, or also the neighbours that they have in common."""

LossName = Literal["bce", "softmax"]
"""How an event is told from its negatives: each alone, or as the one of them all."""

BestBy = Literal["ap", "auc", "mrr", "hits_10"]
"""The metrics of link prediction that may choose the best epoch."""

ClassWeights = Literal["none", "balanced"]
"""How much a label weighs in the loss: all alike, or the rarer its class the more."""

TimeInit = Literal["random", "log"]
"""Where a time encoder starts, see :class:`TimeEncoder`."""

Strategy = Literal["recent", "uniform"]
"""Which neighbours are sampled: the last ones, or a uniform draw without replacement from all earlier ones."""

CutOff = Literal["batch", "event"]
"""Which events a query sees: those before its batch, or all that lie strictly before its own time."""

MitigationName = Literal["none", "similarity", "gated", "predictive"]
"""What repairs stale rows, by name, see :func:`make_mitigation`; ``"none"`` repairs nothing."""

ProtocolName = Literal["random", "historical", "inductive", "tgb"]
"""What events are ranked among in evaluation: random destinations, pairs that met in training or only since, or lists
by TGB's rule."""

Overlap = Literal["auto", "always", "never"]
"""Whether stages run beside training: ``auto`` where that gains time, ``always``, or ``never``."""


def check_class_name(what: str, name: str, known: Iterable[str]) -> None:
    """Refuses what is neither a known name nor ``FILE.py:CLASS``.

    Args:
        what: What it names, for messages.
        name: The name.
        known: The names of built-in classes.

    Raises:
        ValueError: If it is neither.
    """
    names = list(known)
    if name not in names and ":" not in name:
        raise ValueError(f"{what} {name!r} is unknown; choose one of {', '.join(names)}, or give FILE.py:CLASS")
