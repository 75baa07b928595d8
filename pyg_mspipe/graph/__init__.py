"""Temporal adjacency and stateless neighbour sampling."""

from pyg_mspipe.graph.neighbor_sampler import CutOff, Hop, NeighborSample, NeighborSampler, Strategy
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.graph.temporal_csr import TemporalCSR

__all__ = [
    "CutOff",
    "Hop",
    "NeighborSample",
    "NeighborSampler",
    "PendingEvents",
    "Strategy",
    "TemporalCSR",
    "pending_events",
]
