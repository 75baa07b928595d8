"""Tasks: what models are trained for and how well they do it."""

from pyg_mspipe.tasks.baselines import BASELINES, Baselines, evaluate_baselines
from pyg_mspipe.tasks.classification import ClassMetrics, EdgeClassification, NodeClassification
from pyg_mspipe.tasks.evaluate_links import Embed, evaluate_links
from pyg_mspipe.tasks.evaluation import DivergedError, OnBatch, OnScores, evaluate
from pyg_mspipe.tasks.link import LinkPrediction, link_loss, softmax_loss
from pyg_mspipe.tasks.link_metrics import GroupMetrics, LinkMetrics, link_metrics
from pyg_mspipe.tasks.node_property import NodeProperty, PropertyMetrics
from pyg_mspipe.tasks.objective import Objective, train_step
from pyg_mspipe.tasks.rank_file import rank_table, write_ranks
from pyg_mspipe.tasks.ranking import Ranking
from pyg_mspipe.tasks.task import Metrics, Task

__all__ = [
    "BASELINES",
    "Baselines",
    "ClassMetrics",
    "DivergedError",
    "EdgeClassification",
    "Embed",
    "GroupMetrics",
    "LinkMetrics",
    "LinkPrediction",
    "Metrics",
    "NodeClassification",
    "NodeProperty",
    "Objective",
    "OnBatch",
    "OnScores",
    "PropertyMetrics",
    "Ranking",
    "Task",
    "evaluate",
    "evaluate_baselines",
    "evaluate_links",
    "link_loss",
    "link_metrics",
    "rank_table",
    "softmax_loss",
    "train_step",
    "write_ranks",
]
