"""Node memory: state, pending messages and the update."""

from pyg_mspipe._choices import MitigationName, TimeInit
from pyg_mspipe.memory.aggregators import LastAggregator
from pyg_mspipe.memory.mail_memory import MailMemory
from pyg_mspipe.memory.messages import LatestMessages, MessageStore, PendingMessages
from pyg_mspipe.memory.mitigation import Mitigation, make_mitigation
from pyg_mspipe.memory.node_memory import NodeMemory
from pyg_mspipe.memory.node_state import NodeState
from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.memory.row_state import RowState
from pyg_mspipe.memory.rows import Commit, MemoryRows
from pyg_mspipe.memory.static_memory import StaticMemory
from pyg_mspipe.memory.stream_memory import StreamMemory
from pyg_mspipe.memory.tgn_memory import TGNMemory
from pyg_mspipe.memory.time_encoder import TimeEncoder

__all__ = [
    "Commit",
    "LastAggregator",
    "LatestMessages",
    "MailMemory",
    "MemoryPlan",
    "MemoryRows",
    "MessageStore",
    "Mitigation",
    "MitigationName",
    "NodeMemory",
    "NodeState",
    "PendingMessages",
    "RowState",
    "StaticMemory",
    "StreamMemory",
    "TGNMemory",
    "TimeEncoder",
    "TimeInit",
    "make_mitigation",
]
