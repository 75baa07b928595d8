"""Staleness mitigation: four variants behind one interface."""

from pyg_mspipe._choices import MitigationName
from pyg_mspipe.memory.mitigation.base import Mitigation, Repair
from pyg_mspipe.memory.mitigation.make import make_mitigation
from pyg_mspipe.memory.mitigation.predictive import PredictiveMitigation
from pyg_mspipe.memory.mitigation.similar import GatedMitigation, IdleRepair, SimilarityMitigation

__all__ = [
    "GatedMitigation",
    "IdleRepair",
    "Mitigation",
    "MitigationName",
    "PredictiveMitigation",
    "Repair",
    "SimilarityMitigation",
    "make_mitigation",
]
