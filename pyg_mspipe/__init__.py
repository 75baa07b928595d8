"""Fast training of memory-based temporal graph networks for PyTorch Geometric."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy
from pyg_mspipe._version import __version__

if TYPE_CHECKING:
    from pyg_mspipe.data import (
        NegativeSampler,
        StreamError,
        StreamSplit,
        check_stream,
        load_stream,
        split_stream,
        synthetic,
    )
    from pyg_mspipe.distributed import ParallelPlan
    from pyg_mspipe.graph import NeighborSample, NeighborSampler, TemporalCSR
    from pyg_mspipe.loader import PipelineLoader
    from pyg_mspipe.memory import LastAggregator, TGNMemory, TimeEncoder
    from pyg_mspipe.models import TGN, LinkPredictor, TemporalAttention
    from pyg_mspipe.pipeline import Batch, Batches
    from pyg_mspipe.tasks import evaluate_links
    from pyg_mspipe.training import TrainConfig, Trainer, load_run
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "data": [
                "NegativeSampler",
                "StreamError",
                "StreamSplit",
                "check_stream",
                "load_stream",
                "split_stream",
                "synthetic",
            ],
            "distributed": ["ParallelPlan"],
            "graph": ["NeighborSample", "NeighborSampler", "TemporalCSR"],
            "loader": ["PipelineLoader"],
            "memory": ["LastAggregator", "TGNMemory", "TimeEncoder"],
            "models": ["TGN", "LinkPredictor", "TemporalAttention"],
            "pipeline": ["Batch", "Batches"],
            "tasks": ["evaluate_links"],
            "training": ["TrainConfig", "Trainer", "load_run"],
        },
    )

__all__ = [
    "TGN",
    "Batch",
    "Batches",
    "LastAggregator",
    "LinkPredictor",
    "NegativeSampler",
    "NeighborSample",
    "NeighborSampler",
    "ParallelPlan",
    "PipelineLoader",
    "StreamError",
    "StreamSplit",
    "TGNMemory",
    "TemporalAttention",
    "TemporalCSR",
    "TimeEncoder",
    "TrainConfig",
    "Trainer",
    "__version__",
    "check_stream",
    "evaluate_links",
    "load_run",
    "load_stream",
    "split_stream",
    "synthetic",
]
