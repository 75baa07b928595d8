"""A loader for loops of the user's own, in PyG's words."""

from pyg_mspipe.loader.pipeline_loader import PipelineLoader

__all__ = ["PipelineLoader"]
