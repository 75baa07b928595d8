"""Tasks: what models are trained for and how well they do it."""

from pyg_mspipe.tasks.classification import ClassMetrics, EdgeClassification, NodeClassification
from pyg_mspipe.tasks.evaluation import DivergedError, evaluate
from pyg_mspipe.tasks.link import LinkMetrics, LinkPrediction, link_loss, softmax_loss
from pyg_mspipe.tasks.node_property import NodeProperty, PropertyMetrics
from pyg_mspipe.tasks.objective import Objective, train_step
from pyg_mspipe.tasks.task import Metrics, Task

__all__ = [
    "ClassMetrics",
    "DivergedError",
    "EdgeClassification",
    "LinkMetrics",
    "LinkPrediction",
    "Metrics",
    "NodeClassification",
    "NodeProperty",
    "Objective",
    "PropertyMetrics",
    "Task",
    "evaluate",
    "link_loss",
    "softmax_loss",
    "train_step",
]
