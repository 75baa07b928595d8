"""From rows of nodes to embeddings of queries: the attention layers, one hop each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import ModuleList

from pyg_mspipe.graph.neighbor_sampler import NeighborSample
from pyg_mspipe.graph.row_sums import gather_rows
from pyg_mspipe.memory import TimeEncoder
from pyg_mspipe.models.attention import TemporalAttention


def attention_layers(
    in_channels: int, embedding_dim: int, time_dim: int, msg_dim: int, num_layers: int, heads: int, dropout: float
) -> ModuleList:
    """Returns the layers of :func:`temporal_embedding`.

    Args:
        in_channels: Width of the nodes' rows.
        embedding_dim: Width of the embeddings.
        time_dim: Width of the time encoding.
        msg_dim: Width of the events' messages; may be 0.
        num_layers: How many; as many hops are sampled.
        heads: Attention heads.
        dropout: Dropout of the attention weights.
    """
    widths = [in_channels] + [embedding_dim] * (num_layers - 1)
    return ModuleList(
        TemporalAttention(width, embedding_dim, time_dim, msg_dim, heads=heads, dropout=dropout) for width in widths
    )


def temporal_embedding(
    layers: ModuleList,
    time_enc: TimeEncoder,
    z: Tensor,
    sample: NeighborSample,
    elapsed: Sequence[Tensor],
    edge_msg: Sequence[Tensor],
) -> Tensor:
    """Returns the embedding of each query: [Q, embedding_dim].

    Args:
        layers: A :class:`~pyg_mspipe.models.TemporalAttention` for each hop, the last hop's first.
        time_enc: Encodes how old an edge is.
        z: [U, in_channels], the rows of ``sample.n_id``.
        sample: The queries' neighbourhoods.
        elapsed: How old the edges of each hop are, Int64[R, k], in the stream's unit.
        edge_msg: The messages of each hop's edges, [R, k, msg_dim].
    """
    precise = time_enc.lin.weight.dtype
    hops = zip(reversed(sample.hops), reversed(elapsed), reversed(edge_msg), layers, strict=True)
    for depth, (hop, age, msg, layer) in enumerate(hops):
        if depth:
            z = z.relu()
        t_enc = time_enc(age.view(-1).to(precise)).view(*hop.mask.shape, time_enc.out_channels)
        z = layer(z, hop, t_enc, msg)
    return gather_rows(z, sample.seed, sample.seed_sums)


def rows_of_queries(z: Tensor, sample: NeighborSample) -> Tensor:
    """Returns the row of the node that each query asks for: [Q, ...].

    Args:
        z: [U, ...], the rows of ``sample.n_id``.
        sample: The queries' neighbourhoods.
    """
    if sample.seed_sums is None:
        return z.index_select(0, sample.seed_node)
    for hop in reversed(sample.hops):
        z = gather_rows(z, hop.target, hop.target_sums)
    return gather_rows(z, sample.seed, sample.seed_sums)


def since_update(last_update: Tensor, sample: NeighborSample, edge_time: Sequence[Tensor]) -> list[Tensor]:
    """Returns how long before its neighbour's last update each edge lies, as in PyG's TGN: Int64[R, k] for each hop.

    Args:
        last_update: Int64[U], of ``sample.n_id``, in the stream's unit.
        sample: The queries' neighbourhoods.
        edge_time: The times of each hop's edges, Int64[R, k], in the stream's unit.
    """
    # A source row of the last hop is a node; rows of the hops before it are looked up through it.
    start, elapsed = last_update, []
    for hop, t in zip(reversed(sample.hops), reversed(edge_time), strict=True):
        elapsed.append(start.index_select(0, hop.neighbor.view(-1)).view_as(t) - t)
        start = start.index_select(0, hop.target)
    return elapsed[::-1]


def since_asked(row_t: Sequence[Tensor], edge_time: Sequence[Tensor]) -> list[Tensor]:
    """Returns how long before the moment that is asked for each edge lies, as in TGAT: Int64[R, k] for each hop.

    Args:
        row_t: Int64[R] for each hop, see :class:`~pyg_mspipe.Batch`.
        edge_time: The times of each hop's edges, Int64[R, k], in the stream's unit.
    """
    return [moment.unsqueeze(1) - t for moment, t in zip(row_t, edge_time, strict=True)]
