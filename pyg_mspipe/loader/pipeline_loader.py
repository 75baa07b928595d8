"""``PipelineLoader``: PyG's temporal loader, neighbour loader and memory reads in one, ahead of training."""

from __future__ import annotations

import math
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

import torch
from torch_geometric.data import TemporalData

from pyg_mspipe._choices import Overlap
from pyg_mspipe.data import DrawNegatives, FeatureStore, NegativeSampler
from pyg_mspipe.data.feature_store import check_features
from pyg_mspipe.data.temporal_data import on_host
from pyg_mspipe.data.validation import check_stream
from pyg_mspipe.graph import NeighborSampler, Strategy, TemporalCSR
from pyg_mspipe.loader.temporal_batches import TemporalBatches
from pyg_mspipe.memory import NodeState
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.engine import PipelineEngine
from pyg_mspipe.pipeline.no_state import NoState
from pyg_mspipe.pipeline.overlap import parse_overlap
from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.scheduler import Staleness, parse_staleness
from pyg_mspipe.pipeline.streams import StageStreams

# Records of this many batches are kept.
_RECORDS = 10_000


class PipelinedMemory(Protocol):
    """A memory whose rows a loader fetches ahead and whose commits it applies, such as :class:`~pyg_mspipe.TGNMemory`.

    While ``state.pipeline`` is set, ``forward`` takes the rows that it has fetched, and an update hands it the commit.
    """

    num_nodes: int
    training: bool

    @property
    def device(self) -> torch.device:
        """Where batches are brought to."""
        ...

    @property
    def state(self) -> NodeState:
        """What is kept of each node."""
        ...


class PipelineLoader:
    """Loads batches of a stream with everything that a TGN's training step reads, prepared beside training.

    It stands for PyG's ``TemporalDataLoader``, its ``LastNeighborLoader`` and the reads of node memory. A batch is a
    :class:`~torch_geometric.data.TemporalData` on the memory's device with

    * ``src``, ``dst``, ``t``: Int64[B], ``msg``: [B, msg_dim], the events;
    * ``neg_dst``: Int64[round(neg_sampling_ratio * B)], negatives; or with ``negatives`` Int64[M], those of the first
      event, of the second and so on, ``neg_event``: Int64[M], the position in the batch of the event that each is for,
      and ``neg_src``: Int64[M], where they have sources of their own;
    * ``n_id``: Int64[U], unique, sorted: all nodes of the batch and their neighbours, to be given to the memory;
    * ``edge_index``: Int64[2, M], positions in ``n_id``: neighbour, node; sorted by node;
    * ``e_id``: Int64[M], ``edge_time``: Int64[M], ``edge_attr``: [M, msg_dim], the events of the edges;
    * ``x``: [U, node_dim], the features of ``n_id``, where ``node_features`` are given.

    Neighbours are those before the batch's first event. While a batch is trained, those to come are sampled, gathered
    and their memory is fetched; what ``staleness`` says is kept whatever the timing:

    * ``"sequential"``: one step after the other, without threads;
    * ``"exact"``: the numbers of ``"sequential"``, bit for bit, overlapped;
    * ``"minimal"``: memory may miss the last commits where waiting for them would cost time (MSPipe);
    * an integer: it may always miss that many.

    Whatever asks the memory for its state (``forward`` of other nodes, ``state_dict``, ``memory_state``, ``eval``)
    waits until all commits are applied. Its buffers, read directly in the middle of a pass, may still lack the last
    ones; and what was given to ``update_state`` must not be changed in place.

    With the memory in evaluation mode it is read in order; batches are still sampled and gathered ahead, but for
    ``"sequential"``. So it is without a memory (``memory=None``), for loops that do not call ``forward`` and
    ``update_state`` once for each batch: several updates or none, another library's memory, a model without any.

    Args:
        data: The stream. For validation give all of it, and ``events``, so that neighbours from before are found.
        memory: A memory of :mod:`pyg_mspipe`, or any with the same protocol. Call ``forward`` and ``update_state`` once
            for each batch. With none, the loop reads and updates its memory itself, as often as it likes.
        batch_size: Events in a batch.
        num_neighbors: Neighbours of a node, for each hop; ``[]`` or ``[0]`` takes none.
        neg_sampling_ratio: Negatives for each event, from the range of the destinations up to the end of ``events``; 0
            draws none.
        negatives: Gives negatives of your own instead, see :class:`~pyg_mspipe.data.DrawNegatives`: called with the
            events of a batch, ahead of training and perhaps in another thread. TGB's are
            ``lambda at: sampler.query_batch(at.src, at.dst, at.t, split_mode="val")``.
        staleness: See above.
        events: The event ids to go through, by default all.
        strategy: ``"recent"`` or ``"uniform"`` neighbours.
        seed: Decides negatives and uniform neighbours; each pass draws others. Give a loader for validation another
            one than that for training, or both draw alike.
        prefetch: How many batches may be prepared before the one in training is done.
        overlap: Whether stages run in threads beside training: ``"always"``, ``"never"``, or with ``"auto"`` where
            there is a GPU, a core that training leaves idle, or a stage that waits, for a disk for instance.
        on_record: Called with each batch's :class:`~pyg_mspipe.pipeline.BatchRecord`.
        features: The features of the events, one row for each, as in :class:`~pyg_mspipe.data.MappedFeatures`; ``msg``
            and ``edge_attr`` are read from there. By default they are the stream's ``msg``.
        node_features: The features of the nodes, one row for each.
        device: Where batches are brought to, by default the memory's device or, without one, the stream's.

    Attributes:
        epoch: The number of the next pass; it decides the negatives.
        records: The records of the last 10,000 batches: when each stage worked, and how stale memory was.

    Raises:
        StreamError: If the stream cannot be used, or features are not those of its events or nodes.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        data: TemporalData,
        memory: PipelinedMemory | None = None,
        *,
        batch_size: int = 1,
        num_neighbors: Sequence[int] = (10,),
        neg_sampling_ratio: float = 0.0,
        negatives: DrawNegatives | None = None,
        staleness: Staleness | str = "exact",
        events: range | None = None,
        strategy: Strategy = "recent",
        seed: int = 0,
        prefetch: int = 3,
        overlap: Overlap = "auto",
        on_record: Callable[[BatchRecord], None] | None = None,
        features: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        data = check_stream(data)
        events = range(data.num_events) if events is None else events
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; give at least 1")
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}; give at least 1")
        if not 0 <= neg_sampling_ratio < math.inf:
            raise ValueError(f"neg_sampling_ratio={neg_sampling_ratio}; give a number from 0")
        if negatives is not None and neg_sampling_ratio:
            raise ValueError("both neg_sampling_ratio and negatives are given; give one of them")
        if events.step != 1 or not 0 <= events.start <= events.stop <= data.num_events:
            raise ValueError(f"events={events} are no consecutive events of a stream of {data.num_events}")
        largest = int(torch.maximum(data.src, data.dst).max())
        if memory is not None and largest >= memory.num_nodes:
            raise ValueError(f"the stream has a node {largest}, the memory {memory.num_nodes} nodes; make it larger")
        check_features(features, node_features, num_events=data.num_events, num_nodes=largest + 1)
        if device is None:
            device = data.src.device if memory is None else memory.device
        self.device = torch.device(device)
        # Neighbours are looked up on the CPU, beside training; a GPU keeps the features that it has.
        data = on_host(data)
        csr = TemporalCSR.from_stream(data, largest + 1 if memory is None else memory.num_nodes)
        # Destinations up to the last event's: of later ones nothing is known yet.
        known = data.dst[: events.stop] if events else data.dst
        if neg_sampling_ratio:
            negatives = NegativeSampler.from_destinations(known, seed=seed)
        sampler = NeighborSampler(csr, num_neighbors if any(num_neighbors) else [], strategy, seed)
        self._batches = TemporalBatches(
            data,
            events,
            batch_size,
            sampler,
            negatives,
            neg_sampling_ratio,
            self.device,
            features=features,
            node_features=node_features,
        )
        self.memory = memory
        self.staleness = parse_staleness(staleness)
        self.prefetch = prefetch
        self.epoch = 0
        self.records: deque[BatchRecord] = deque(maxlen=_RECORDS)
        self._on_record = on_record
        self._estimates = RunningDurations()
        self._streams = StageStreams(self.device)
        given = parse_overlap(overlap)
        self._overlap = {training: given for training in (False, True)}
        self._running: weakref.ref[Generator[TemporalData, None, None]] | None = None

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Generator[TemporalData, None, None]:
        """Yields the batches of a pass, each to be trained before the next is asked for.

        A pass that was left before its end is closed first.

        Raises:
            PipelineError: If a stage failed.
        """
        self.close()
        iterator = self._pass(self.epoch)
        self.epoch += 1
        self._running = weakref.ref(iterator)
        return iterator

    def close(self) -> None:
        """Ends a pass that is under way: its commits are applied, and no thread is left."""
        running = None if self._running is None else self._running()
        if running is not None:
            running.close()

    def _pass(self, epoch: int) -> Generator[TemporalData, None, None]:
        memory = self.memory
        training = memory is not None and memory.training
        as_given = training or self.staleness == "sequential"
        engine = PipelineEngine(
            self._batches,
            NoState() if memory is None else memory.state,
            device=self.device,
            staleness=self.staleness if as_given else "exact",
            epoch=epoch,
            prefetch=self.prefetch,
            # What was found out in training says nothing of evaluation, and the other way round.
            overlap=self._overlap[training],
            estimates=self._estimates if training else None,
            streams=self._streams,
            on_record=self._keep,
        )
        committed = False
        with closing(iter(engine)) as flights:
            for flight in flights:
                assert flight.batch is not None
                yield flight.batch
                committed |= flight.commit is not None
        self._overlap[training] = engine.overlap
        if training and engine.asked and not committed:
            warnings.warn(
                "update_state was not called for any batch of the pass, so the memory has seen none of its events; "
                "call it once for each batch of the loader, or give the loader memory=None and read it yourself",
                stacklevel=2,
            )

    def _keep(self, record: BatchRecord) -> None:
        self.records.append(record)
        if self._on_record is not None:
            self._on_record(record)
