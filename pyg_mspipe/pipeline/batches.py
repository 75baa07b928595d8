"""The batches of a stream, each a function of its number alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import torch
from torch import Tensor
from torch_geometric.data import TemporalData

from pyg_mspipe._choices import CutOff
from pyg_mspipe.data.feature_store import FeatureStore, TensorFeatures
from pyg_mspipe.data.labels import Labels
from pyg_mspipe.data.negatives import DrawNegatives, Negatives, Positives, negatives_for
from pyg_mspipe.graph.neighbor_sampler import NeighborSample, NeighborSampler
from pyg_mspipe.graph.pending_events import PendingEvents, pending_events
from pyg_mspipe.memory.plan import MakePlan, MemoryPlan, plan_last_message, with_meetings
from pyg_mspipe.pipeline.batch import Batch
from pyg_mspipe.pipeline.cuts import Cuts
from pyg_mspipe.pipeline.distinct import distinct_queries
from pyg_mspipe.pipeline.gather import Gather
from pyg_mspipe.pipeline.padding import replanned
from pyg_mspipe.pipeline.pairs import PairReader
from pyg_mspipe.pipeline.queries import Ask, Queries, ask_pairs


class Batches:
    """The batches of a range of events. A batch is a function of its epoch and number alone, read in any order.

    Args:
        data: The stream, as :func:`~pyg_mspipe.data.check_stream` gives it.
        events: The event ids that are cut into batches.
        batch_size: Events in a batch; the last may have fewer.
        sampler: Samples neighbours, over the same stream and device.
        negatives: Gives those of a batch, such as a :class:`~pyg_mspipe.NegativeSampler`; by default there are none.
        ask: Says which nodes are asked for at the events; by default sources, destinations and negatives.
        labels: The stream's labels, on its device; by default there are none.
        cut_at_labels: Whether a batch begins wherever labels stand, so that all events before them are applied.
        embed_once: Whether equal queries of a batch are embedded once, as evaluation wants it.
        pairs: Finds what scores read of pairs beside their nodes' embeddings; by default they read nothing else.
        reads_moment: Whether embeddings depend on the moment that is asked for; see :class:`TemporalModel`.
        with_ends: Whether both ends of all events are sampled like queries, after them; see :class:`TemporalModel`.
        cut_off: ``"batch"``: nothing of a batch is visible to it. ``"event"``: a query sees all events strictly before
            its own time, also those of its batch.
        msg: The messages, a row for each event or more, such as :class:`~pyg_mspipe.data.MappedFeatures` where they
            do not fit into memory; by default the stream's own.
        node_features: The features of the nodes, a row for each; by default there are none.
        device: Where batches are brought to when they are gathered, by default the stream's own.
        memory_begin: The first event that node memory has seen, by default the first of ``events``.
        make_plan: Plans what a batch does to node memory; none where the model has no memory.
        forwards: How many batches before each may be on their way to node memory still when its rows are used.
        finish: Has the last word on what is drawn, such as :class:`~pyg_mspipe.pipeline.padding.Padding`.

    Raises:
        ValueError: If the batch size is below 1, the cut-off unknown, or messages are fewer than events.

    Example:
        >>> from pyg_mspipe import Batches, NegativeSampler, NeighborSampler, TemporalCSR, synthetic
        >>> data = synthetic(500)
        >>> sampler = NeighborSampler(TemporalCSR.from_stream(data), [10])
        >>> negatives = NegativeSampler.from_destinations(data.dst[:350])
        >>> batches = Batches(data, range(350), 100, sampler, negatives)
        >>> len(batches), batches.events_of(3)
        (4, range(300, 350))
        >>> batch = batches.read(epoch=0, index=3)
        >>> batch.src.shape, batch.negatives.dst.shape, batch.sample.hops[0].mask.shape[1]
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
        ask: Ask = ask_pairs,
        labels: Labels | None = None,
        cut_at_labels: bool = False,
        embed_once: bool = False,
        pairs: PairReader | None = None,
        reads_moment: bool = True,
        with_ends: bool = False,
        cut_off: CutOff = "batch",
        msg: FeatureStore | None = None,
        node_features: FeatureStore | None = None,
        device: torch.device | None = None,
        memory_begin: int | None = None,
        make_plan: MakePlan | None = plan_last_message,
        forwards: int = 0,
        finish: Callable[[Batch], Batch] | None = None,
    ) -> None:
        if cut_off not in get_args(CutOff):
            raise ValueError(f"cut_off={cut_off!r} is unknown; choose one of {', '.join(get_args(CutOff))}")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; give at least 1")
        self.data = data
        self.msg = TensorFeatures(data.msg) if msg is None else msg
        self.device = data.src.device if device is None else device
        self.gather_features = Gather(data.t, self.msg, node_features, self.device)
        self.events = events
        self.batch_size = batch_size
        self.sampler = sampler
        self.negatives = negatives
        self.ask_at = ask
        self.labels = labels
        self._cuts = Cuts(labels if cut_at_labels else None)
        self.embed_once = embed_once
        self.pairs = pairs
        self.reads_moment = reads_moment
        self.with_ends = with_ends
        self.cut_off = cut_off
        self.memory_begin = events.start if memory_begin is None else memory_begin
        self.make_plan = make_plan
        self.forwards = forwards
        self.finish = finish

    def __len__(self) -> int:
        """Returns the number of batches."""
        return self._cuts.count(self.events, self.batch_size)

    def read(self, epoch: int, index: int) -> Batch:
        """Returns batch ``index`` of epoch ``epoch``, gathered: both numbers count from 0."""
        return self.gather(self.draw(self.events_of(index), epoch, index))

    def events_of(self, index: int) -> range:
        """Returns the event ids of batch ``index``.

        Raises:
            IndexError: If there is no such batch.
        """
        return self._cuts.batch(self.events, self.batch_size, index)

    def draw(
        self,
        events: range,
        epoch: int,
        index: int,
        whole: range | None = None,
        memory_begin: int | None = None,
        negatives: Negatives | None = None,
    ) -> Batch:
        """Returns the batch with negatives, neighbourhoods and plan (stage 1), features still to be gathered.

        Args:
            events: The event ids.
            epoch: Which pass over the stream this is.
            index: The batch's number.
            whole: The batch that ``events`` are a part of, if they are; what it sees and its negatives are then those
                of the whole one.
            memory_begin: The first event that the memory has seen; by default the batches' own.
            negatives: The negatives of the whole, where they are known already.
        """
        whole = whole or events
        src, dst, t = self._ends(events)
        if negatives is None:
            negatives = self.negatives_of(whole, epoch, index)
        negatives = negatives.part(slice(events.start - whole.start, events.stop - whole.start))
        labels = None if self.labels is None else self.labels.of(events)
        queries = self.ask_at(src, dst, negatives, labels)
        query_t = t.index_select(0, queries.event) if queries.t is None else queries.t
        sample = self._sample(queries, query_t, src, dst, t, whole.start, epoch)
        asked = pairs = None
        if self.pairs is not None:
            bound = whole.start if self.cut_off == "batch" else self.sampler.csr.first_event_at(t)
            pairs, sample = self.pairs(src, dst, t, negatives, bound, sample)
        if self.embed_once:
            sample, query_t, asked = distinct_queries(sample, query_t, by_moment=self.reads_moment)
        plan = self._plan(events, sample.n_id, whole.start, whole.start, memory_begin)
        if plan is not None and self.forwards:
            plan = with_meetings(plan, self.data, map(self.events_of, range(max(index - self.forwards, 0), index)))
        drawn = events, src, dst, t, torch.empty(0, self.msg.width), negatives, sample, query_t, self._row_t(sample)
        batch = Batch(*drawn, (), (), plan, asked=asked, pairs=pairs, y=None if labels is None else labels.y)
        return batch if self.finish is None else self.finish(batch)

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

    def negatives_of(self, events: range, epoch: int, index: int) -> Negatives:
        """Returns the negatives of a batch, of which there may be none.

        Args:
            events: The event ids.
            epoch: Which pass over the stream this is.
            index: The batch's number.
        """
        if self.negatives is None:
            return Negatives(self.data.src.new_empty(0, len(events)))
        positives = Positives.of(self.data, events, epoch=epoch, batch=index)
        return negatives_for(self.negatives, positives, self.sampler.csr.num_nodes).to(self.data.src.device)

    def _ends(self, events: range) -> tuple[Tensor, Tensor, Tensor]:
        """Returns sources, destinations and times of events."""
        part = slice(events.start, events.stop)
        return self.data.src[part], self.data.dst[part], self.data.t[part]

    def without_queries(self, events: range) -> Batch:
        """Returns a batch that asks nothing, with which node memory is updated alone, features still to be gathered.

        Args:
            events: The event ids.
        """
        src, dst, t = self._ends(events)
        if self.with_ends:
            sample = self._sample(Queries(src[:0], src[:0]), t[:0], src, dst, t, events.start, 0)
        else:
            n_id = torch.cat([src, dst]).unique()
            sample = NeighborSample(n_id, (), n_id[:0])
        return self._undrawn(events, sample, src[:0])

    def ask(self, node: Tensor, bound: int, t: int | None = None, *, dst: Tensor | None = None) -> Batch:
        """Returns a gathered batch of queries alone, which has no events.

        Args:
            node: Int64[Q], the nodes to be embedded.
            bound: The event before which they are: only events with a smaller id are seen.
            t: The moment that is asked for, in the stream's unit; by default the time of event ``bound`` or the last.
            dst: Int64[Q], what each is a pair with, if pairs are to be scored; these nodes are queries too, after them.
        """
        if t is None:
            t = int(self.data.t[min(bound, self.data.num_events - 1)])
        asked = node if dst is None else torch.cat([node, dst])
        sample, query_t, pairs = self.sampler.sample(asked, bound), torch.full_like(asked, t), None
        if dst is not None and self.pairs is not None:
            nothing = Negatives(node.new_empty(0, node.numel()))
            pairs, sample = self.pairs(node, dst, query_t[: node.numel()], nothing, bound, sample)
        return self.gather(replace(self._undrawn(range(bound, bound), sample, query_t), pairs=pairs))

    def _undrawn(self, events: range, sample: NeighborSample, query_t: Tensor) -> Batch:
        src, dst, t = self._ends(events)
        plan = self._plan(events, sample.n_id, events.start, events.start, None)
        none = torch.empty(0, self.msg.width)
        negatives = Negatives(src[:0].view(0, 0))
        return Batch(events, src, dst, t, none, negatives, sample, query_t, self._row_t(sample), (), (), plan)

    def _row_t(self, sample: NeighborSample) -> tuple[Tensor, ...]:
        """Returns the time of the first event that each target row does not see, Int64[R] for each hop."""
        last = self.data.num_events - 1
        return tuple(self.data.t[hop.bound.clamp(max=last)].expand_as(hop.target) for hop in sample.hops)

    def gather(self, batch: Batch) -> Batch:
        """Returns ``batch`` with messages, of edges and pending events too, edge times and node features (stage 2)."""
        return self.gather_features(batch)

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
        if batch.plan is None:
            return batch
        make = partial(self._plan, batch.events, start=batch.events.start, bound=bound, memory_begin=memory_begin)
        return replace(batch, plan=self.gather_features.plan(replanned(batch, batch.plan, make)))

    def pending(self, n_id: Tensor, bound: int, begin: int) -> tuple[PendingEvents, Tensor]:
        """Returns what waits for nodes, and its messages, [M, msg_dim], both on the batches' device.

        Args:
            n_id: Int64[M].
            bound: The first event that is not committed.
            begin: The first event that the memory has seen.
        """
        pending = pending_events(self.sampler.csr, self.data.src, n_id.to(self.data.src.device), bound, begin=begin)
        return self.gather_features.messages_of(pending)

    def _plan(self, events: range, n_id: Tensor, start: int, bound: int, memory_begin: int | None) -> MemoryPlan | None:
        if self.make_plan is None:
            return None
        begin = self.memory_begin if memory_begin is None else memory_begin
        plan = self.make_plan(self.sampler.csr, self.data, events, n_id, start=start, bound=bound, begin=begin)
        return replace(plan, t=int(self.data.t[min(events.start, self.data.num_events - 1)]))
