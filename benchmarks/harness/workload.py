"""What every variant of a benchmark is given: one stream, one batch size, the same negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch_geometric.data import TemporalData

from benchmarks.harness.benchmark import find_stream
from pyg_mspipe.data import NegativeSampler, load_stream, split_stream

MSG_DIM = 172  # the width of the features of JODIE's Wikipedia and Reddit
QUICK_EVENTS = 4_000


@dataclass(frozen=True)
class Workload:
    """A stream to train on, in batches.

    Attributes:
        name: What the stream is, to be quoted with every figure.
        data: The events, ``msg: Float32[E, msg_dim]``.
        num_nodes: The number of nodes ``N``.
        train: Event ids to train on, from 0.
        val: Event ids to validate on, the next ones.
        batch_size: Events in a batch.
        negatives: Draws the negatives of training.
        val_negatives: The same for validation.
    """

    name: str
    data: TemporalData
    num_nodes: int
    train: range
    val: range
    batch_size: int
    negatives: NegativeSampler
    val_negatives: NegativeSampler

    @property
    def msg_dim(self) -> int:
        """The width of the events' features."""
        return int(self.data.msg.size(1))

    def batches(self, events: range) -> list[range]:
        """Returns the event ids of each batch, in order."""
        return [events[i : i + self.batch_size] for i in range(0, len(events), self.batch_size)]


def load_workload(stream: str, batch_size: int, *, seed: int, quick: bool) -> Workload:
    """Returns a stream, or where there is no such file the synthetic one; 70 % to train on, 15 % to validate.

    A stream without edge features gets seeded normal ones, and its name says so.

    Args:
        stream: A file that ``load_stream`` reads, or the name of a real stream.
        batch_size: Events in a batch.
        seed: Of the negatives.
        quick: Take the first few thousand events alone.
    """
    path = find_stream(stream)
    if path:
        name, data = path.stem.capitalize(), load_stream(path)
    else:
        name, data = "Synthetic stream", load_stream("synthetic", num_events=100_000, num_src=8_000, msg_dim=MSG_DIM)
    num_nodes = int(torch.maximum(data.src, data.dst).max()) + 1
    if data.msg.size(1) == 0:
        name += ", synthetic features"
        data.msg = torch.randn(data.num_events, MSG_DIM, generator=torch.Generator().manual_seed(0))
    if quick:
        data = data[:QUICK_EVENTS]
        name += f", first {data.num_events:,} events"
    split = split_stream(data)
    return Workload(
        name=name,
        data=data,
        num_nodes=num_nodes,
        train=split.train,
        val=split.val,
        batch_size=batch_size,
        negatives=NegativeSampler.from_destinations(data.dst, seed=(seed, 0)),
        val_negatives=NegativeSampler.from_destinations(data.dst, seed=(seed, 1)),
    )
