"""Temporal adjacency, stateless neighbour sampling and similar nodes."""

from pyg_mspipe._choices import CutOff, Strategy
from pyg_mspipe.graph.neighbor_sampler import Hop, NeighborSample, NeighborSampler
from pyg_mspipe.graph.pair_history import PairHistory
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.graph.similar_nodes import SimilarNodes, similar_nodes
from pyg_mspipe.graph.temporal_csr import TemporalCSR

__all__ = [
    "CutOff",
    "Hop",
    "NeighborSample",
    "NeighborSampler",
    "PairHistory",
    "PendingEvents",
    "SimilarNodes",
    "Strategy",
    "TemporalCSR",
    "pending_events",
    "similar_nodes",
]
