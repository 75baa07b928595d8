"""From rows of nodes to embeddings of queries: the attention layers, one hop each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import ModuleList

from pyg_mspipe.graph.neighbor_sampler import NeighborSample
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
    since: Tensor,
    sample: NeighborSample,
    edge_time: Sequence[Tensor],
    edge_msg: Sequence[Tensor],
) -> Tensor:
    """Returns the embedding of each query: [Q, embedding_dim].

    Args:
        layers: A :class:`~pyg_mspipe.models.TemporalAttention` for each hop, the last hop's first.
        time_enc: Encodes how long before ``since`` of its neighbour an edge lies.
        z: [U, in_channels], the rows of ``sample.n_id``.
        since: Int64[U], the time from which each node counts back, in the stream's unit.
        sample: The queries' neighbourhoods.
        edge_time: The times of each hop's edges, Int64[R, k], in the stream's unit.
        edge_msg: The messages of each hop's edges, [R, k, msg_dim].
    """
    precise = time_enc.lin.weight.dtype
    # A source row of the last hop is a node; rows of the hops before it are looked up through it.
    counted_from = [since]
    for hop in reversed(sample.hops[1:]):
        counted_from.append(counted_from[-1].index_select(0, hop.target))
    hops = zip(reversed(sample.hops), reversed(edge_time), reversed(edge_msg), counted_from, layers, strict=True)
    for depth, (hop, t, msg, start, layer) in enumerate(hops):
        if depth:
            z = z.relu()
        elapsed = start.index_select(0, hop.neighbor.view(-1)) - t.view(-1)
        t_enc = time_enc(elapsed.to(precise)).view(*hop.mask.shape, -1)
        z = layer(z, hop, t_enc, msg)
    return z.index_select(0, sample.seed)
