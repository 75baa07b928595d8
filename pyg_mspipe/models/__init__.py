"""Models for streams of events."""

from pyg_mspipe.models.apan import APAN
from pyg_mspipe.models.attention import TemporalAttention
from pyg_mspipe.models.common_neighbors import CommonNeighborPredictor
from pyg_mspipe.models.dyrep import DyRep
from pyg_mspipe.models.jodie import JODIE, gap_statistics
from pyg_mspipe.models.link_predictor import LinkPredictor
from pyg_mspipe.models.memory_model import MemoryModel
from pyg_mspipe.models.static_model import StaticModel
from pyg_mspipe.models.temporal_model import TemporalModel
from pyg_mspipe.models.tgat import TGAT
from pyg_mspipe.models.tgn import TGN

__all__ = [
    "APAN",
    "JODIE",
    "TGAT",
    "TGN",
    "CommonNeighborPredictor",
    "DyRep",
    "LinkPredictor",
    "MemoryModel",
    "StaticModel",
    "TemporalAttention",
    "TemporalModel",
    "gap_statistics",
]
