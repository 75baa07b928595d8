"""What happens to a batch on its way to training."""

from pyg_mspipe.pipeline.batches import Batch, Batches
from pyg_mspipe.pipeline.engine import PipelineEngine
from pyg_mspipe.pipeline.loader import PipelineLoader
from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.scheduler import Staleness, parse_staleness
from pyg_mspipe.pipeline.stages import InFlight, check_order, default_stages
from pyg_mspipe.pipeline.work import PipelineError

__all__ = [
    "Batch",
    "BatchRecord",
    "Batches",
    "InFlight",
    "PipelineEngine",
    "PipelineError",
    "PipelineLoader",
    "Staleness",
    "check_order",
    "default_stages",
    "parse_staleness",
]
