"""Samplers as the settings of a run want them."""

from __future__ import annotations

from torch import Tensor

from pyg_mspipe.data import NegativeSampler
from pyg_mspipe.graph import NeighborSampler, TemporalCSR
from pyg_mspipe.training.config import TrainConfig


def neighbor_sampler(config: TrainConfig, csr: TemporalCSR) -> NeighborSampler:
    """Returns the sampler of neighbours: a hop for each layer."""
    return NeighborSampler(csr, [config.num_neighbors] * config.layers, config.strategy, config.seed)


def negative_sampler(config: TrainConfig, dst: Tensor, num_nodes: int, use: int) -> NegativeSampler:
    """Returns the sampler of negatives.

    Args:
        config: Of the run.
        dst: Int64[E], the destinations that are known by then.
        num_nodes: Number of nodes.
        use: What it is for; each use has negatives of its own.
    """
    seed = (config.seed, use)
    if config.negatives == "nodes":
        return NegativeSampler.from_nodes(num_nodes, seed=seed)
    return NegativeSampler.from_destinations(dst, seed=seed)
