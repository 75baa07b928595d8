"""``PipelineLoader``: PyG's temporal loader, neighbour loader and memory reads in one, ahead of training."""

from __future__ import annotations

import math
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe._choices import Overlap
from pyg_mspipe.data import FeatureStore, NegativeSampler, TensorFeatures
from pyg_mspipe.data.feature_store import check_features
from pyg_mspipe.data.validation import check_stream
from pyg_mspipe.graph import NeighborSampler, Strategy, TemporalCSR
from pyg_mspipe.memory import TGNMemory
from pyg_mspipe.pipeline.durations import RunningDurations
from pyg_mspipe.pipeline.engine import PipelineEngine
from pyg_mspipe.pipeline.overlap import parse_overlap
from pyg_mspipe.pipeline.record import BatchRecord
from pyg_mspipe.pipeline.scheduler import Staleness, parse_staleness

# Records of this many batches are kept.
_RECORDS = 10_000


class TemporalBatches:
    """Batches as PyG's examples use them. A batch is a function of its epoch and number alone.

    Args:
        data: The stream, validated.
        events: The event ids that are cut into batches.
        batch_size: Events in a batch.
        sampler: Samples neighbours, over the same stream.
        negatives: Draws negatives; none draws none.
        neg_sampling_ratio: Negatives for each event.
        device: Where batches are brought to.
        features: The features of the events; by default the stream's ``msg``.
        node_features: The features of the nodes, if there are any.
    """

    def __init__(
        self,
        data: TemporalData,
        events: range,
        batch_size: int,
        sampler: NeighborSampler,
        negatives: NegativeSampler | None,
        neg_sampling_ratio: float,
        device: torch.device,
        features: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
    ) -> None:
        self.data = data
        self.events = events
        self.batch_size = batch_size
        self.sampler = sampler
        self.negatives = negatives
        self.neg_sampling_ratio = neg_sampling_ratio
        self.device = device
        self.features = TensorFeatures(data.msg) if features is None else features
        self.node_features = node_features

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self.events) // self.batch_size)

    def events_of(self, index: int) -> range:
        """Returns the event ids of batch ``index``."""
        return self.events[index * self.batch_size : (index + 1) * self.batch_size]

    def draw(self, events: range, epoch: int, index: int) -> TemporalData:
        """Returns the events with ``neg_dst``, ``n_id``, ``edge_index`` and ``e_id`` (stage 1)."""
        batch = self.data[events.start : events.stop]
        batch.msg = torch.arange(events.start, events.stop, device=batch.src.device)  # until the rows are gathered
        nodes = [batch.src, batch.dst]
        if self.negatives is not None:
            size = round(self.neg_sampling_ratio * len(events))
            batch.neg_dst = self.negatives(size, epoch=epoch, batch=index).to(batch.src.device)
            nodes.append(batch.neg_dst)
        batch.n_id, batch.edge_index, batch.e_id = self.sampler(torch.cat(nodes), events.start, epoch=epoch)
        return batch

    def gather(self, batch: TemporalData) -> TemporalData:
        """Returns the batch with ``msg``, ``edge_time``, ``edge_attr`` and ``x``, on the device (stage 2)."""
        batch.edge_time = self.data.t.index_select(0, batch.e_id)
        rows = self._read(self.features, torch.cat([batch.msg, batch.e_id]))
        batch.msg, batch.edge_attr = rows.split([batch.num_events, batch.e_id.numel()])
        if self.node_features is not None:
            batch.x = self._read(self.node_features, batch.n_id)
        return batch.to(self.device, non_blocking=True)

    def as_of(self, batch: TemporalData, index: int, version: int) -> TemporalData:
        """Returns the batch: what waits for its nodes is stored with their memory, of whatever version."""
        return batch

    def _read(self, features: FeatureStore, ids: Tensor) -> Tensor:
        return features.read(ids).to(self.device, non_blocking=True).float()


class PipelineLoader:
    """Loads batches of a stream with everything that a TGN's training step reads, prepared beside training.

    It stands for PyG's ``TemporalDataLoader``, its ``LastNeighborLoader`` and the reads of node memory. A batch is a
    :class:`~torch_geometric.data.TemporalData` on the memory's device with

    * ``src``, ``dst``, ``t``: Int64[B], ``msg``: [B, msg_dim], the events;
    * ``neg_dst``: Int64[round(neg_sampling_ratio * B)], negatives;
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
    ``"sequential"``.

    Args:
        data: The stream. For validation give all of it, and ``events``, so that neighbours from before are found.
        memory: A memory of :mod:`pyg_mspipe`. Call ``forward`` and ``update_state`` once for each batch.
        batch_size: Events in a batch.
        num_neighbors: Neighbours of a node, for each hop.
        neg_sampling_ratio: Negatives for each event, from the range of the destinations up to the end of ``events``; 0
            draws none.
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
        memory: TGNMemory,
        *,
        batch_size: int = 1,
        num_neighbors: Sequence[int] = (10,),
        neg_sampling_ratio: float = 0.0,
        staleness: Staleness | str = "exact",
        events: range | None = None,
        strategy: Strategy = "recent",
        seed: int = 0,
        prefetch: int = 3,
        overlap: Overlap = "auto",
        on_record: Callable[[BatchRecord], None] | None = None,
        features: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
    ) -> None:
        data = check_stream(data)
        events = range(data.num_events) if events is None else events
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; give at least 1")
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}; give at least 1")
        if not 0 <= neg_sampling_ratio < math.inf:
            raise ValueError(f"neg_sampling_ratio={neg_sampling_ratio}; give a number from 0")
        if events.step != 1 or not 0 <= events.start <= events.stop <= data.num_events:
            raise ValueError(f"events={events} are no consecutive events of a stream of {data.num_events}")
        largest = int(torch.maximum(data.src, data.dst).max())
        if largest >= memory.num_nodes:
            raise ValueError(f"the stream has a node {largest}, the memory {memory.num_nodes} nodes; make it larger")
        check_features(features, node_features, num_events=data.num_events, num_nodes=largest + 1)
        csr = TemporalCSR.from_stream(data, memory.num_nodes)
        # Destinations up to the last event's: of later ones nothing is known yet.
        known = data.dst[: events.stop] if events else data.dst
        negatives = NegativeSampler.from_destinations(known, seed=seed) if neg_sampling_ratio else None
        sampler = NeighborSampler(csr, num_neighbors, strategy, seed)
        self._batches = TemporalBatches(
            data,
            events,
            batch_size,
            sampler,
            negatives,
            neg_sampling_ratio,
            memory.device,
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
        training = self.memory.training
        as_given = training or self.staleness == "sequential"
        engine = PipelineEngine(
            self._batches,
            self.memory.state,
            device=self.memory.device,
            staleness=self.staleness if as_given else "exact",
            epoch=epoch,
            prefetch=self.prefetch,
            # What was found out in training says nothing of evaluation, and the other way round.
            overlap=self._overlap[training],
            estimates=self._estimates if training else None,
            on_record=self._keep,
        )
        committed = False
        with closing(iter(engine)) as flights:
            for flight in flights:
                assert flight.batch is not None
                yield flight.batch
                committed |= flight.commit is not None
        self._overlap[training] = engine.overlap
        if training and len(self) and not committed:
            warnings.warn(
                "update_state was not called for any batch of the pass, so the memory has seen none of its events; "
                "call it once for each batch of the loader",
                stacklevel=2,
            )

    def _keep(self, record: BatchRecord) -> None:
        self.records.append(record)
        if self._on_record is not None:
            self._on_record(record)
