"""What finds neighbours, negatives and what is known of pairs for a run's batches, made from its settings."""

from __future__ import annotations

from torch_geometric.data import TemporalData

from pyg_mspipe.data import DrawNegatives, NegativeSampler
from pyg_mspipe.data.stream_folder import destination_range
from pyg_mspipe.graph import CommonNeighborFinder, HistoricalSampler, NeighborSampler, PairFeatures, TemporalCSR
from pyg_mspipe.pipeline import PairReader
from pyg_mspipe.tasks import Task
from pyg_mspipe.training.config import TrainConfig


def neighbor_sampler(config: TrainConfig, csr: TemporalCSR, num_hops: int) -> NeighborSampler:
    """Returns the sampler of neighbours.

    Args:
        config: The run's settings.
        csr: The stream's history.
        num_hops: How many hops the model reads.
    """
    return NeighborSampler(csr, [config.num_neighbors] * num_hops, config.strategy, config.seed)


def negative_sampler(
    config: TrainConfig, data: TemporalData, stop: int, num_nodes: int, use: int, num: int
) -> DrawNegatives:
    """Returns the sampler of the negatives of training; those of evaluation are the protocol's.

    Args:
        config: The run's settings.
        data: The stream.
        stop: How many of its events are known at that time.
        num_nodes: Number of nodes.
        use: A number for the purpose of the negatives; each purpose draws its own.
        num: Negatives for each event.
    """
    seed = (config.seed, use)
    if config.negatives == "nodes":
        return NegativeSampler.from_nodes(num_nodes, num=num, seed=seed)
    if config.negatives == "historical":
        return HistoricalSampler.from_events(data.src[:stop], data.dst[:stop], num_nodes, num=num, seed=seed)
    return NegativeSampler(*destination_range(data, stop), num=num, seed=seed)


def pair_reader(
    config: TrainConfig, task: Task, csr: TemporalCSR, data: TemporalData, train: range
) -> PairReader | None:
    """Returns what finds what the task reads of pairs; None if it reads nothing but embeddings.

    Args:
        config: The run's settings.
        task: The run's task.
        csr: The stream's history.
        data: The stream.
        train: The training events.
    """
    if not (task.pair_features or task.common_neighbors):
        return None
    features = PairFeatures.from_stream(csr, data.src, data.dst, train) if task.pair_features else None
    common = CommonNeighborFinder(csr, config.num_neighbors) if task.common_neighbors else None
    return PairReader(features, common)
