"""Holds a model of the package against its oracle: outputs, gradients and state, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import TemporalData

from oracles.events import Stream, ask_pairs
from oracles.memory import Oracle
from pyg_mspipe.data import FeatureStore, Positives, TensorFeatures
from pyg_mspipe.graph import CutOff, NeighborSampler, TemporalCSR
from pyg_mspipe.models import TemporalModel
from pyg_mspipe.pipeline import Batches
from pyg_mspipe.pipeline.gather import Gather

NUM_NODES = 6


@st.composite
def streams(draw, min_events: int = 5, max_events: int = 40) -> TemporalData:
    """A stream on a few nodes with self-loops, repeated pairs and ties; the last of the nodes has no event."""
    size = draw(st.integers(min_events, max_events))
    ends = st.lists(st.integers(0, NUM_NODES - 2), min_size=size, max_size=size)
    gaps = torch.tensor(draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=size, max_size=size)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return TemporalData(
        src=torch.tensor(draw(ends)),
        dst=torch.tensor(draw(ends)),
        t=gaps.cumsum(0) + draw(st.sampled_from([0, 5])),
        msg=torch.randn(size, draw(st.sampled_from([0, 3])), generator=generator),
    )


def random_stream(num_events: int = 30, msg_dim: int = 3, seed: int = 0) -> TemporalData:
    """Returns one such stream."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(0, NUM_NODES - 1, (2, num_events), generator=generator)
    t = torch.randint(0, 3, (num_events,), generator=generator).cumsum(0)
    return TemporalData(src=src, dst=dst, t=t, msg=torch.randn(num_events, msg_dim, generator=generator))


def small_stream(*events: tuple[int, int, int]) -> Stream:
    """Returns a stream of ``(src, dst, t)`` with a message that is the event's number."""
    src, dst, t = torch.tensor(events).T
    msg = torch.arange(len(events)).float().unsqueeze(1)
    return Stream(TemporalData(src=src, dst=dst, t=t, msg=msg), NUM_NODES)


class Float64Gather(Gather):
    """Gathers features in float64."""

    def _read(self, features: FeatureStore, ids: Tensor, there: Tensor) -> Tensor:
        return super()._read(features, ids, there).double()


class Float64Batches(Batches):
    """Batches whose features are float64."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        own = self.gather_features
        self.gather_features = Float64Gather(own.t, own.msg, own.node_features, own.device)


class Case:
    """A stream and how it is read.

    Args:
        data: The stream.
        num_nodes: Number of nodes.
        batch_size: Events in a batch.
        num_neighbors: How many neighbours are taken in each hop.
        num_negatives: Negatives for each event, drawn from all nodes.
        begin: The first event of the first batch, with which the memory begins.
        training_share: The share of batches in training mode.
        seed: Of the negatives, and of the loss.
        cut_off: What a query sees, see ``Batches``.
        x: The features of the nodes, [N, node_dim], or none.
    """

    def __init__(
        self,
        data: TemporalData,
        num_nodes: int,
        batch_size: int,
        num_neighbors: list[int],
        *,
        num_negatives: int = 1,
        begin: int = 0,
        training_share: float = 0.7,
        seed: int = 0,
        cut_off: CutOff = "batch",
        x: Tensor | None = None,
    ) -> None:
        self.stream = Stream(data, num_nodes)
        self.begin, self.seed, self.x, self.num_negatives = begin, seed, x, num_negatives
        sampler = NeighborSampler(TemporalCSR.from_stream(data, num_nodes), num_neighbors)
        events = range(begin, data.num_events)
        features = {} if x is None else {"node_features": TensorFeatures(x)}
        options = {"cut_off": cut_off, "memory_begin": begin} | features
        self.batches = Float64Batches(data, events, batch_size, sampler, self._negatives, **options)
        self.num_training = round(len(self.batches) * training_share)

    def _negatives(self, positives: Positives) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + positives.batch)
        return torch.randint(0, self.stream.num_nodes, (self.num_negatives, len(positives)), generator=generator)

    def loss(self, z: Tensor, number: int) -> Tensor:
        """Returns a loss in which every number of every output has its own weight."""
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        weight = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.dtype)
        return (weight * (z + z * z)).mean()


def randomized(model: TemporalModel, seed: int = 0) -> dict[str, Tensor]:
    """Draws a model's parameters from [-0.5, 0.5], and returns copies of them, by name, that collect gradients.

    Both are float64: a layer norm of nearly equal numbers makes more of float32's rounding than a comparison forgives.
    """
    generator = torch.Generator().manual_seed(seed)
    copies = {}
    model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
            copies[name] = parameter.clone().requires_grad_()
    return copies


def renamed(params: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Returns the same tensors under other names.

    Args:
        params: By name.
        prefixes: The beginnings of names, and what stands in place of each.
    """
    out = {}
    for name, parameter in params.items():
        old = next((each for each in prefixes if name.startswith(each)), "")
        out[prefixes.get(old, "") + name[len(old) :]] = parameter
    return out


def tables_of(model: TemporalModel) -> dict[str, Tensor]:
    """Returns the tables of a model's memory; none of a model without one."""
    return {} if model.memory is None else model.memory.state.tables


def compare(
    model: TemporalModel,
    params: Mapping[str, Tensor],
    oracle: Oracle,
    case: Case,
    tables: Callable[[TemporalModel], Mapping[str, Tensor]] = tables_of,
) -> None:
    """Runs a model and its oracle over all batches and holds them against each other.

    Args:
        model: The model, without dropout.
        params: What :func:`randomized` gave for it, the tensors that the oracle computes with.
        oracle: The oracle, in the state in which it was made.
        case: The stream; the oracle has its ``stream`` and its ``begin``.
        tables: Gives the model's state in the form of ``oracle.state()``.
    """
    model.train()
    case.batches.make_plan = None
    case.batches.with_ends = model.embeds_ends
    if model.memory is not None:
        case.batches.make_plan = model.memory.make_plan
        model.memory.state.clear(case.begin)
    for number in range(len(case.batches)):
        if number == case.num_training:
            model.settle(case.batches)
            oracle.settle()
            assert_same_state(tables(model), oracle.state(), "settled")
            model.eval()
            oracle.training = False
        batch = case.batches.read(0, number)
        where = f"batch {number}, {'training' if oracle.training else 'evaluation'}"
        found = model(batch)
        expected = oracle.batch(batch.events, ask_pairs(case.stream, batch.events, batch.negatives.dst.tolist()))
        assert_close(found, expected, f"{where}: outputs")

        model.zero_grad()
        for parameter in params.values():
            parameter.grad = None
        for z in (found, expected):
            # Rows in evaluation mode are constants: a model that reads nothing else has no gradient there.
            if z.requires_grad:
                case.loss(z, number).backward()
        for name, parameter in model.named_parameters():
            # What took no part has no gradient in one and zeros in the other.
            own, other = (torch.zeros_like(x) if x.grad is None else x.grad for x in (parameter, params[name]))
            assert_close(own, other, f"{where}: gradient of {name}")

        model.update(batch)
        oracle.commit(batch.events)
        assert_same_state(tables(model), oracle.state(), where)


def assert_same_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    assert set(found) == set(expected)
    for name, table in expected.items():
        assert_close(found[name], table, f"{where}: {name}")


def assert_close(found: Tensor, expected: Tensor, where: str) -> None:
    """Whole numbers must be equal, others to 1e-5."""
    if not expected.is_floating_point():
        assert torch.equal(found, expected), where
        return
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, msg=lambda text: f"{where}: {text}")
