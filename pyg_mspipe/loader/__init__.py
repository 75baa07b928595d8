"""Loaders for loops of the user's own, in PyG's words."""

from pyg_mspipe.loader.pipeline_loader import PipelineLoader, TemporalBatches

__all__ = ["PipelineLoader", "TemporalBatches"]
