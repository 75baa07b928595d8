"""The equations that the models share, each for one vector, with parameters in a dictionary by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from oracles.events import Event, Stream

Params = Mapping[str, Tensor]
"""Parameters by name, such as ``"layers.0.lin_key.weight"``, all of one floating dtype."""

Shapes = dict[str, tuple[int, ...]]
"""The shape of each parameter, by name."""


def linear_shapes(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def cell_shapes(name: str, inputs: int, width: int, gates: int) -> Shapes:
    sizes = {"weight_ih": (gates * width, inputs), "weight_hh": (gates * width, width)}
    return {f"{name}.{each}": size for each, size in sizes.items()} | {
        f"{name}.{each}": (gates * width,) for each in ("bias_ih", "bias_hh")
    }


def norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention_shapes(inputs: int, outputs: int, edge: int, num_layers: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(num_layers):
        for name in ("lin_key", "lin_query", "lin_value", "lin_skip"):
            shapes |= linear_shapes(f"layers.{layer}.{name}", outputs if layer else inputs, outputs)
        shapes |= linear_shapes(f"layers.{layer}.lin_edge", edge, outputs, bias=False)
    return shapes


def random_params(shapes: Shapes, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Returns parameters of some shapes, uniform in [-0.5, 0.5], that collect gradients."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.rand(*shape, generator=generator, dtype=dtype) - 0.5).requires_grad_()
        for name, shape in shapes.items()
    }


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """Returns ``W x + b``, without ``b`` where there is none of that name."""
    out = params[f"{name}.weight"] @ x
    return out + params[f"{name}.bias"] if f"{name}.bias" in params else out


def phi(params: Params, name: str, elapsed: float) -> Tensor:
    """Returns the time encoding ``cos(w x + b)``: [T]."""
    return (params[f"{name}.lin.weight"][:, 0] * elapsed + params[f"{name}.lin.bias"]).cos()


def gru(params: Params, name: str, x: Tensor, h: Tensor) -> Tensor:
    """Returns ``GRUCell(x, h)``: the gates are reset, update and new, as in torch."""
    from_x = (params[f"{name}.weight_ih"] @ x + params[f"{name}.bias_ih"]).chunk(3)
    from_h = (params[f"{name}.weight_hh"] @ h + params[f"{name}.bias_hh"]).chunk(3)
    reset, update = ((from_x[gate] + from_h[gate]).sigmoid() for gate in (0, 1))
    new = (from_x[2] + reset * from_h[2]).tanh()
    return (1 - update) * new + update * h


def rnn(params: Params, name: str, x: Tensor, h: Tensor) -> Tensor:
    """Returns ``RNNCell(x, h)`` with tanh."""
    from_x = params[f"{name}.weight_ih"] @ x + params[f"{name}.bias_ih"]
    return (from_x + params[f"{name}.weight_hh"] @ h + params[f"{name}.bias_hh"]).tanh()


def layer_norm(params: Params, name: str, x: Tensor) -> Tensor:
    """Returns the layer norm of a vector, with the biased variance and 1e-5 added to it, as in torch."""
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * params[f"{name}.weight"] + params[f"{name}.bias"]


def attention(
    params: Params, name: str, heads: int, own: Tensor, neighbours: Sequence[Tensor], edges: Sequence[Tensor]
) -> Tensor:
    """Returns what PyG's ``TransformerConv`` gives one node.

    For each head: ``sum_j alpha_j (W_v x_j + W_e e_j)`` with ``alpha = softmax_j q . (W_k x_j + W_e e_j) / sqrt(C)``,
    then ``W_skip x`` is added. Without neighbours the sum is 0.

    Args:
        params: Those of the layer have names that begin with ``name``.
        name: The layer.
        heads: Number of heads.
        own: The node's row.
        neighbours: The rows of its neighbours.
        edges: The time encoding and the message of each edge, joined.
    """
    out = linear(params, f"{name}.lin_skip", own)
    if not neighbours:
        return out
    query = linear(params, f"{name}.lin_query", own).chunk(heads)
    keys, values = [], []
    for x, edge in zip(neighbours, edges, strict=True):
        from_edge = linear(params, f"{name}.lin_edge", edge)
        keys.append((linear(params, f"{name}.lin_key", x) + from_edge).chunk(heads))
        values.append((linear(params, f"{name}.lin_value", x) + from_edge).chunk(heads))
    summed = []
    for head in range(heads):
        scores = [query[head] @ key[head] / query[head].numel() ** 0.5 for key in keys]
        alpha = torch.stack(scores).softmax(0)
        summed.append(sum(alpha[j] * value[head] for j, value in enumerate(values)))
    return torch.cat(summed) + out


def temporal_embedding(
    params: Params,
    stream: Stream,
    node: int,
    bound: int,
    *,
    num_neighbors: Sequence[int],
    heads: int,
    time_enc: str,
    row: Callable[[int], Tensor],
    elapsed: Callable[[Event, int], float],
) -> Tensor:
    """Returns the embedding of one query by recursion over its earlier events.

    Layer ``l`` of ``L`` turns what layer ``l - 1`` gave a node and its neighbours into what it gives the node; between
    layers stands a ReLU. All neighbours, of whatever hop, are those before the query's bound.

    Args:
        params: The attention layers are ``"layers.0"``, the one next to the rows, and so on.
        stream: The stream.
        node: The node that is asked for.
        bound: The first event that is not seen.
        num_neighbors: How many neighbours are taken in each hop, the query's own hop first.
        heads: Attention heads.
        time_enc: The name of the time encoder.
        row: Gives a node's row.
        elapsed: Gives the time to be encoded for an edge, from its event and its neighbour.
    """
    hops = len(num_neighbors)

    def look(node: int, depth: int) -> Tensor:
        if depth == hops:
            return row(node)
        found = stream.recent(node, bound, num_neighbors[depth])
        below = [look(each, depth + 1) for each in (node, *(other for _, other in found))]
        if depth + 1 < hops:
            below = [x.relu() for x in below]
        edges = [
            torch.cat([phi(params, time_enc, elapsed(event, other)), event.msg.to(below[0])]) for event, other in found
        ]
        return attention(params, f"layers.{hops - 1 - depth}", heads, below[0], below[1:], edges)

    return look(node, 0)
