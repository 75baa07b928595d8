"""PyG's loop with pyg_mspipe's memory and sampler swapped in, and nothing else changed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator

from benchmarks.harness.workload import Workload
from benchmarks.peers.link_loop import DIM, NUM_NEIGHBORS
from benchmarks.peers.pyg_loop import TGNLoop
from pyg_mspipe import NeighborSampler, TemporalCSR, TGNMemory


class CSRNeighbors:
    """The stateless sampler, which knows the whole stream and is told where to stop."""

    def __init__(self, workload: Workload) -> None:
        csr = TemporalCSR.from_stream(workload.data, workload.num_nodes)
        self.sample = NeighborSampler(csr, num_neighbors=[NUM_NEIGHBORS])

    def insert(self, src: Tensor, dst: Tensor) -> None:
        """Does nothing: there is no state."""

    def reset_state(self) -> None:
        """Does nothing: there is no state."""


def start(workload: Workload, seed: int) -> TGNLoop:
    """Returns the loop with pyg_mspipe's memory and sampler."""
    torch.manual_seed(seed)
    message = IdentityMessage(workload.msg_dim, DIM, DIM)
    memory = TGNMemory(workload.num_nodes, workload.msg_dim, DIM, DIM, message, LastAggregator())
    return TGNLoop(workload, memory, CSRNeighbors(workload))
