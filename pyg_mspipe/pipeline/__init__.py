"""What happens to a batch on its way to training."""

from pyg_mspipe.pipeline.batches import Batch, Batches

__all__ = ["Batch", "Batches"]
