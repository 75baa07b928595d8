"""What happens to a batch on its way to training."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy

if TYPE_CHECKING:
    from pyg_mspipe.pipeline.batch import Batch
    from pyg_mspipe.pipeline.batches import Batches
    from pyg_mspipe.pipeline.engine import PipelineEngine
    from pyg_mspipe.pipeline.pairs import PairReader, Pairs
    from pyg_mspipe.pipeline.queries import (
        Ask,
        Queries,
        ask_labelled_events,
        ask_labelled_nodes,
        ask_pairs,
        ask_sources,
    )
    from pyg_mspipe.pipeline.record import BatchRecord
    from pyg_mspipe.pipeline.scheduler import Staleness, parse_staleness
    from pyg_mspipe.pipeline.stages import InFlight
    from pyg_mspipe.pipeline.work import PipelineError
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "batch": ["Batch"],
            "batches": ["Batches"],
            "engine": ["PipelineEngine"],
            "pairs": ["PairReader", "Pairs"],
            "queries": ["Ask", "Queries", "ask_labelled_events", "ask_labelled_nodes", "ask_pairs", "ask_sources"],
            "record": ["BatchRecord"],
            "scheduler": ["Staleness", "parse_staleness"],
            "stages": ["InFlight"],
            "work": ["PipelineError"],
        },
    )

__all__ = [
    "Ask",
    "Batch",
    "BatchRecord",
    "Batches",
    "InFlight",
    "PairReader",
    "Pairs",
    "PipelineEngine",
    "PipelineError",
    "Queries",
    "Staleness",
    "ask_labelled_events",
    "ask_labelled_nodes",
    "ask_pairs",
    "ask_sources",
    "parse_staleness",
]
