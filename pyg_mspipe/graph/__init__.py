"""Temporal adjacency, stateless neighbour sampling and similar nodes."""

from pyg_mspipe._choices import CutOff, Strategy
from pyg_mspipe.graph.common_neighbors import CommonNeighborFinder, CommonNeighbors
from pyg_mspipe.graph.historical_sampler import HistoricalSampler
from pyg_mspipe.graph.neighbor_sampler import Hop, NeighborSample, NeighborSampler
from pyg_mspipe.graph.pair_features import PairFeatures
from pyg_mspipe.graph.pair_history import PairHistory
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.graph.similar_nodes import SimilarNodes, similar_nodes
from pyg_mspipe.graph.temporal_csr import TemporalCSR

__all__ = [
    "CommonNeighborFinder",
    "CommonNeighbors",
    "CutOff",
    "HistoricalSampler",
    "Hop",
    "NeighborSample",
    "NeighborSampler",
    "PairFeatures",
    "PairHistory",
    "PendingEvents",
    "SimilarNodes",
    "Strategy",
    "TemporalCSR",
    "pending_events",
    "similar_nodes",
]
