"""A stream of the kind that breaks ties, for tests."""

import torch
from torch_geometric.data import TemporalData


def tied_stream(num_events: int = 601, msg_dim: int = 4) -> TemporalData:
    """A stream with nodes in both roles, self-loops, and most events at the time of the event before."""
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(30, (2, num_events), generator=generator)
    t = 3600 * torch.randint(num_events // 6, (num_events,), generator=generator).sort().values
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(num_events, msg_dim, generator=generator))
