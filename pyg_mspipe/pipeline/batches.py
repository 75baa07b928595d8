"""The batches of a stream, each a function of its number alone."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe._choices import CutOff
from pyg_mspipe.data.feature_store import FeatureStore, TensorFeatures
from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import DrawNegatives
from pyg_mspipe.graph.neighbor_sampler import NeighborSample, NeighborSampler
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.memory.plan import MakePlan, MemoryPlan, plan_last_message
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.cuts import Cuts
from pyg_mspipe.pipeline.queries import Ask, Queries, ask_pairs


class Batches:
    """The batches of a range of events. A batch is a function of its epoch and number alone, read in any order.

    Args:
        data: The stream, as :func:`~pyg_mspipe.data.check_stream` gives it.
        events: The event ids that are cut into batches.
        batch_size: Events in a batch; the last may have fewer.
        sampler: Samples neighbours, over the same stream and device.
        negatives: Draws the negatives; none draws none.
        num_negatives: Negatives for each event, ``K``, where some are drawn.
        ask: Says which nodes are asked for at the events; by default sources, destinations and negatives.
        labels: The stream's labels, on its device; by default there are none.
        cut_at_labels: Whether a batch begins wherever labels stand, so that all events before them are applied.
        with_ends: Whether both ends of all events are sampled like queries, after them; see :class:`TemporalModel`.
        cut_off: ``"batch"``: nothing of a batch is visible to it. ``"event"``: a query sees all events strictly before
            its own time, also those of its batch.
        msg: The messages, a row for each event or more, such as :class:`~pyg_mspipe.data.MappedFeatures` where they
            do not fit into memory; by default the stream's own.
        node_features: The features of the nodes, a row for each; by default there are none.
        device: Where batches are brought to when they are gathered, by default the stream's own.
        memory_begin: The first event that node memory has seen when these batches are read, by default the first one
            of ``events``; what waits for a node is an event from there on.
        make_plan: Plans what a batch does to node memory; none where the model has no memory.

    Raises:
        ValueError: If the batch size or the number of negatives is below 1, the cut-off is unknown, or the number of
            messages is below that of events.

    Example:
        >>> from pyg_mspipe import Batches, NegativeSampler, NeighborSampler, TemporalCSR, synthetic
        >>> data = synthetic(500)
        >>> sampler = NeighborSampler(TemporalCSR.from_stream(data), [10])
        >>> negatives = NegativeSampler.from_destinations(data.dst[:350])
        >>> batches = Batches(data, range(350), 100, sampler, negatives)
        >>> len(batches), batches.events_of(3)
        (4, range(300, 350))
        >>> batch = batches.read(epoch=0, index=3)
        >>> batch.src.shape, batch.negatives.shape, batch.sample.hops[0].mask.shape[1]
        (torch.Size([50]), torch.Size([1, 50]), 10)
    """

    def __init__(
        self,
        data: TemporalData,
        events: range,
        batch_size: int,
        sampler: NeighborSampler,
        negatives: DrawNegatives | None = None,
        *,
        num_negatives: int = 1,
        ask: Ask = ask_pairs,
        labels: Labels | None = None,
        cut_at_labels: bool = False,
        with_ends: bool = False,
        cut_off: CutOff = "batch",
        msg: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
        device: torch.device | None = None,
        memory_begin: int | None = None,
        make_plan: MakePlan | None = plan_last_message,
    ) -> None:
        if cut_off not in get_args(CutOff):
            raise ValueError(f"cut_off={cut_off!r} is unknown; choose one of {', '.join(get_args(CutOff))}")
        for name, number in (("batch_size", batch_size), ("num_negatives", num_negatives)):
            if number < 1:
                raise ValueError(f"{name}={number}; give at least 1")
        if msg is not None and msg.num_rows < data.num_events:
            raise ValueError(
                f"msg has {msg.num_rows} rows and the stream {data.num_events} events; give one row for each"
            )
        self.data = data
        self.msg = TensorFeatures(data.msg) if msg is None else msg
        self.node_features = node_features
        self.device = data.src.device if device is None else device
        self.events = events
        self.batch_size = batch_size
        self.sampler = sampler
        self.negatives = negatives
        self.num_negatives = num_negatives if negatives is not None else 0
        self.ask_at = ask
        self.labels = labels
        self._cuts = None if labels is None or not cut_at_labels else Cuts(labels)
        self.with_ends = with_ends
        self.cut_off = cut_off
        self.memory_begin = events.start if memory_begin is None else memory_begin
        self.make_plan = make_plan

    def __len__(self) -> int:
        """Returns the number of batches."""
        if self._cuts is not None:
            return len(self._cuts(self.events, self.batch_size)) - 1
        return -(-len(self.events) // self.batch_size)

    def read(self, epoch: int, index: int) -> Batch:
        """Returns batch ``index`` of epoch ``epoch``: both numbers count from 0.

        Raises:
            IndexError: If there is no such batch.
        """
        return self.gather(self.draw(self.events_of(index), epoch, index))

    def events_of(self, index: int) -> range:
        """Returns the event ids of batch ``index``.

        Raises:
            IndexError: If there is no such batch.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        if self._cuts is not None:
            return range(*self._cuts(self.events, self.batch_size)[index : index + 2])
        start = self.events.start + index * self.batch_size
        return range(start, min(start + self.batch_size, self.events.stop))

    def draw(
        self, events: range, epoch: int, index: int, whole: range | None = None, memory_begin: int | None = None
    ) -> Batch:
        """Returns the batch with negatives, neighbourhoods and plan (stage 1), features still to be gathered.

        Args:
            events: The event ids.
            epoch: Which pass over the stream this is.
            index: The batch's number.
            whole: The batch that ``events`` are a part of, if they are; what it sees and its negatives are then those
                of the whole one.
            memory_begin: The first event that the memory has seen; by default the batches' own.
        """
        whole = whole or events
        part = slice(events.start, events.stop)
        src, dst, t = self.data.src[part], self.data.dst[part], self.data.t[part]
        negatives = self._negatives(events, whole, epoch, index)
        labels = None if self.labels is None else self.labels.of(events)
        queries = self.ask_at(src, dst, negatives, labels)
        query_t = t.index_select(0, queries.event) if queries.t is None else queries.t
        sample = self._sample(queries, query_t, src, dst, t, whole.start, epoch)
        plan = self._plan(events, sample.n_id, whole.start, whole.start, memory_begin)
        none, y = torch.empty(0, self.msg.width), None if labels is None else labels.y
        return Batch(events, src, dst, t, none, negatives, sample, query_t, self._row_t(sample), (), (), plan=plan, y=y)

    def _sample(
        self, queries: Queries, query_t: Tensor, src: Tensor, dst: Tensor, t: Tensor, start: int, epoch: int
    ) -> NeighborSample:
        """Returns the neighbourhoods of queries at events, and the ends of these beside them if they are read."""
        node = torch.cat([queries.node, src, dst]) if self.with_ends else queries.node
        if self.cut_off == "batch":
            bound: Tensor | int = start
        else:
            bound = self.sampler.csr.first_event_at(torch.cat([query_t, t, t]) if self.with_ends else query_t)
        sample = self.sampler.sample(node, bound, epoch=epoch)
        if self.make_plan is None or self.with_ends or queries.both_ends:
            return sample
        return sample.including(torch.cat([src, dst]))

    def _negatives(self, events: range, whole: range, epoch: int, index: int) -> Tensor:
        """Returns the negatives of a part of a batch: Int64[K, B]."""
        if self.negatives is None:
            return torch.empty(0, len(events), dtype=torch.long, device=self.data.src.device)
        drawn = self.negatives(self.num_negatives * len(whole), epoch=epoch, batch=index)
        own = slice(events.start - whole.start, events.stop - whole.start)
        of_part: Tensor = drawn.view(self.num_negatives, -1)[:, own].to(self.data.src.device)
        return of_part

    def without_queries(self, events: range) -> Batch:
        """Returns a gathered batch that asks nothing, with which node memory is updated alone.

        Args:
            events: The event ids.
        """
        part = slice(events.start, events.stop)
        src, dst, t = self.data.src[part], self.data.dst[part], self.data.t[part]
        if self.with_ends:
            sample = self._sample(Queries(src[:0], src[:0]), t[:0], src, dst, t, events.start, 0)
        else:
            n_id = torch.cat([src, dst]).unique()
            sample = NeighborSample(n_id, (), n_id[:0])
        return self.gather(self._undrawn(events, sample, src[:0]))

    def ask(self, node: Tensor, bound: int, t: int | None = None) -> Batch:
        """Returns a gathered batch of queries alone, which has no events.

        Args:
            node: Int64[Q], the nodes to be embedded.
            bound: The event before which they are: only events with a smaller id are seen.
            t: The moment that is asked for, in the stream's unit; by default the time of event ``bound`` or the last.
        """
        if t is None:
            t = int(self.data.t[min(bound, self.data.num_events - 1)])
        sample = self.sampler.sample(node, bound)
        return self.gather(self._undrawn(range(bound, bound), sample, torch.full_like(node, t)))

    def _undrawn(self, events: range, sample: NeighborSample, query_t: Tensor) -> Batch:
        part = slice(events.start, events.stop)
        src, dst, t = self.data.src[part], self.data.dst[part], self.data.t[part]
        plan = self._plan(events, sample.n_id, events.start, events.start, None)
        none = torch.empty(0, self.msg.width)
        negatives = src[:0].view(0, 0)
        return Batch(events, src, dst, t, none, negatives, sample, query_t, self._row_t(sample), (), (), plan)

    def _row_t(self, sample: NeighborSample) -> tuple[Tensor, ...]:
        """Returns the time of the first event that each target row does not see, Int64[R] for each hop."""
        last = self.data.num_events - 1
        return tuple(self.data.t[hop.bound.clamp(max=last)].expand_as(hop.target) for hop in sample.hops)

    def gather(self, batch: Batch) -> Batch:
        """Returns ``batch`` with messages, of edges and pending events too, edge times and node features (stage 2)."""
        hops = batch.sample.hops
        events = torch.arange(batch.events.start, batch.events.stop, device=batch.src.device)
        pending = events[:0] if batch.plan is None else batch.plan.pending.e_id
        e_id = torch.cat([*(hop.e_id.view(-1) for hop in hops), events, pending])
        # All at once: a store on a disk has more requests to work on, and a GPU one copy to wait for.
        rows = self._raw_msg(e_id)
        *edge_msg, msg, raw_msg = rows.split([*(hop.e_id.numel() for hop in hops), len(events), pending.numel()])
        batch = replace(
            batch,
            msg=msg,
            edge_time=tuple(self.data.t.index_select(0, hop.e_id.view(-1)).view_as(hop.e_id) for hop in hops),
            edge_msg=tuple(x.view(*hop.e_id.shape, self.msg.width) for x, hop in zip(edge_msg, hops, strict=True)),
            plan=None if batch.plan is None else batch.plan.with_raw_msg(raw_msg),
            x=None if self.node_features is None else self._read(self.node_features, batch.n_id),
        )
        return batch if self.device == batch.src.device else batch.to(self.device, non_blocking=True)

    def as_of(self, batch: Batch, index: int, version: int, memory_begin: int | None = None) -> Batch:
        """Returns a gathered batch planned as of an earlier version of node memory, where rows may be stale.

        Args:
            batch: Gathered.
            index: Its number.
            version: How many batches are committed when its rows are read.
            memory_begin: The first event that the memory has seen; by default the batches' own.
        """
        return self.planned_at(batch, self.events_of(version).start, memory_begin)

    def planned_at(self, batch: Batch, bound: int, memory_begin: int | None = None) -> Batch:
        """Returns a gathered batch planned as of when its rows are read.

        Args:
            batch: Gathered.
            bound: The first event that is not committed then.
            memory_begin: The first event that the memory has seen; by default the batches' own.
        """
        plan = self._plan(batch.events, batch.n_id.to(self.data.src.device), batch.events.start, bound, memory_begin)
        if plan is None:
            return batch
        plan = plan.to(self.device).with_raw_msg(self._raw_msg(plan.pending.e_id))
        return replace(batch, plan=plan)

    def pending(self, n_id: Tensor, bound: int, begin: int) -> tuple[PendingEvents, Tensor]:
        """Returns what waits for nodes, and its messages, [M, msg_dim], both on the batches' device.

        Args:
            n_id: Int64[M].
            bound: The first event that is not committed.
            begin: The first event that the memory has seen.
        """
        pending = pending_events(self.sampler.csr, self.data.src, n_id.to(self.data.src.device), bound, begin=begin)
        return pending.to(self.device), self._raw_msg(pending.e_id)

    def _raw_msg(self, e_id: Tensor) -> Tensor:
        """Returns the messages of events, Float32[M, msg_dim], on the batches' device: of ``e_id``, Int64[M]."""
        return self._read(self.msg, e_id)

    def _read(self, features: FeatureStore, ids: Tensor) -> Tensor:
        return features.read(ids).to(self.device, non_blocking=True).float()

    def _plan(self, events: range, n_id: Tensor, start: int, bound: int, memory_begin: int | None) -> MemoryPlan | None:
        if self.make_plan is None:
            return None
        begin = self.memory_begin if memory_begin is None else memory_begin
        return self.make_plan(self.sampler.csr, self.data, events, n_id, start=start, bound=bound, begin=begin)
