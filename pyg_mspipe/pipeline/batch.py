"""A batch: what stages 1 and 2, sample and gather, make of a range of events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from pyg_mspipe.data.negatives import Negatives
from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.memory.plan import MemoryPlan
from pyg_mspipe.memory.rows import MemoryRows
from pyg_mspipe.pipeline.batch_size import BatchSize
from pyg_mspipe.pipeline.pairs import Pairs


@dataclass(frozen=True)
class Batch:
    """``B`` consecutive events with negatives, the neighbourhoods of what is asked, and features.

    Attributes:
        events: The event ids.
        src: Int64[B].
        dst: Int64[B].
        t: Int64[B], in the stream's unit.
        msg: Float32[B, msg_dim]; empty until it is gathered.
        negatives: The negatives of each event, ``K`` or fewer.
        sample: Neighbourhoods of the queries.
        query_t: Int64[Q], the moments that the queries ask for, in the stream's unit.
        row_t: Int64[R] for each hop, the time of the first event that each target row does not see; that of the last
            event where a row sees all.
        edge_time: The times of each hop's edges, Int64[R, k].
        edge_msg: The messages of each hop's edges, Float32[R, k, msg_dim].
        plan: What the batch does to node memory; none where nothing was drawn for one.
        rows: What was read of node memory for it; none where the model is to read it itself.
        x: Float32[U, node_dim], the features of ``n_id``; none until they are gathered, and where nodes have none.
        asked: Int64[A], which of the ``Q`` queries answers each that was asked for, where equal ones are embedded once;
            none where every one is a query of its own.
        pairs: What is known of the pairs of events and negatives; none where the task reads nothing of the kind.
        node_rows: [U, row_dim], what the model knows of ``n_id``, with gradients; there only when a task is to read it.
        unpadded: The sizes before the batch was padded; none where it was not.
        padded: The sizes to which it was padded, likewise.
        y: Int64[L] or Float32[L, C], the labels that are asked for at the events; none where the task has none.
    """

    events: range
    src: Tensor
    dst: Tensor
    t: Tensor
    msg: Tensor
    negatives: Negatives
    sample: NeighborSample
    query_t: Tensor
    row_t: tuple[Tensor, ...]
    edge_time: tuple[Tensor, ...]
    edge_msg: tuple[Tensor, ...]
    plan: MemoryPlan | None = None
    rows: MemoryRows | None = None
    x: Tensor | None = None
    asked: Tensor | None = None
    pairs: Pairs | None = None
    node_rows: Tensor | None = None
    y: Tensor | None = None
    unpadded: BatchSize | None = None
    padded: BatchSize | None = None

    @property
    def n_id(self) -> Tensor:
        """Int64[U], unique, sorted: the nodes whose memory is read."""
        return self.sample.n_id

    def with_rows(self, rows: MemoryRows | None) -> Batch:
        """Returns the batch with what was read of node memory for it.

        Args:
            rows: What :meth:`NodeState.fetch` gave; none where the model is to read the rows itself.
        """
        return replace(self, rows=rows)
