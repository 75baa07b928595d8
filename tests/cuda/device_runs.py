"""Small runs on any device, by name, whose numbers are plain values to be compared with those of another device."""

import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch_geometric.nn import TransformerConv
from torch_geometric.nn.models.tgn import IdentityMessage, MeanAggregator

from benchmarks.gpu import BENCHMARK
from pyg_mspipe import (
    TGN,
    Batches,
    LastAggregator,
    LinkPredictor,
    NegativeSampler,
    NeighborSampler,
    PipelineLoader,
    TemporalCSR,
    TGNMemory,
    synthetic,
)
from pyg_mspipe.data import Labels, MappedFeatures, TensorFeatures, write_features
from pyg_mspipe.pipeline import PipelineEngine, parse_staleness
from pyg_mspipe.tasks import LinkPrediction, Metrics, Objective, train_step
from pyg_mspipe.training import (
    BatchTrained,
    EpochDone,
    Saved,
    SingleExecutor,
    StagesDone,
    TrainConfig,
    Trainer,
    load_checkpoint,
)
from pyg_mspipe.training.single import padding_for

Numbers = dict[str, Any]
BATCH = 40
SIZES = {"memory_dim": 8, "time_dim": 8, "embedding_dim": 8, "num_neighbors": 3, "eval_negatives": 3}
SETTINGS = {**SIZES, "epochs": 2, "batch_size": BATCH, "lr": 1e-3, "checkpoint_every": 0, "tensorboard": False}


@cache
def stream():
    """About 180 events to train on, five batches; times are in hours, as those in seconds magnify rounding."""
    data = synthetic(260, num_src=30, num_dst=20, msg_dim=4, labels=True)
    data.t //= 3600
    return data


@cache
def shares():
    """Labels of nodes with moments of their own: four shares each."""
    data, generator = stream(), torch.Generator().manual_seed(0)
    event = torch.arange(10, data.num_events, 15).repeat_interleave(6)
    y = torch.rand(len(event), 4, generator=generator)
    node = torch.randint(30, (len(event),), generator=generator)
    return Labels(event, node, data.t[event], y / y.sum(1, keepdim=True))


class PaddingExecutor(SingleExecutor):
    """Pads batches on a CPU too, as on a GPU."""

    def _new_step(self) -> Any:
        job = self._job
        if vars(type(job.objective.model)).get("paddable", False):
            job.train.finish = padding_for(job.train)
        return super()._new_step()


class HostMemoryExecutor(PaddingExecutor):
    """Keeps node memory on the host, wherever the weights are."""

    def memory_device(self, plan: object) -> str | None:
        return "cpu"


class StoppedError(Exception):
    """A run was left."""


def sequence_of(records: list[Any]) -> Numbers:
    """What is to hold of the records of passes one after the other: how stale each batch was and may have been."""
    return {
        "staleness": [record.staleness for record in records],
        "too_stale": [record.index for record in records if record.staleness > record.bound],
        "unfinished": [record.index for record in records if len(record.finish) < 5],
    }


def train(
    device: str, *, memory_device: str = "device", features: str = "stream", stop_at: int | None = None, **settings: Any
) -> Numbers:
    """Trains and validates; with ``stop_at`` the run is left after that step, goes on, and its best model is tested."""
    losses: list[float] = []
    records: list[Any] = []
    metrics: list[dict[str, float]] = []

    def listen(event: object) -> None:
        if isinstance(event, BatchTrained):
            losses.append(event.loss)
        elif isinstance(event, EpochDone):
            metrics.append(figures(event.metrics))
        elif isinstance(event, StagesDone):
            records.append(event.record)

    def leave(event: object) -> None:
        if isinstance(event, Saved) and event.path.name == "last.pt" and len(losses) == stop_at:
            raise StoppedError

    data = stream()
    config = TrainConfig(**{**SETTINGS, "device": device, **settings})
    with tempfile.TemporaryDirectory() as folder:
        path = None if stop_at is None else Path(folder, "run")
        options: dict[str, Any] = {"labels": shares()} if config.task == "property" else {}
        if features == "pinned":
            options["features"] = TensorFeatures(data.msg, pinned=device != "cpu")
        elif features == "mapped":
            write_features(Path(folder, "msg.npy"), data.msg)
            options["features"] = MappedFeatures(Path(folder, "msg.npy"), pinned=device != "cpu")

        def executor() -> SingleExecutor:
            return HostMemoryExecutor() if memory_device == "host" else PaddingExecutor()

        trainer = Trainer(data, config, path, executor=executor(), listeners=[listen, leave], **options)
        if path is None:
            trainer.fit()
        else:
            with suppress(StoppedError):
                trainer.fit()
            last = load_checkpoint(path / "last.pt")
            trainer = Trainer.resume(data, last, path, executor=executor(), listeners=[listen], **options)
            trainer.fit()
            metrics += map(figures, trainer.test(load_checkpoint(path / "best.pt")).values())
    memory = trainer.model.memory
    state = {} if memory is None else {name: x.tolist() for name, x in memory.state.save().items()}
    return {"losses": losses, "metrics": metrics, "state": state, **sequence_of(records)}


def figures(metrics: Metrics) -> dict[str, float]:
    """What metrics hold in numbers."""
    return {name: value for name, value in vars(metrics).items() if isinstance(value, float)}


def engine(
    device: str,
    *,
    staleness: str,
    overlap: str = "always",
    host: bool = False,
    hops: int = 1,
    leave_at: int | None = None,
    commits: bool = True,
    dropout: float = 0.1,
) -> Numbers:
    """Two passes through an engine, from an empty memory each; ``leave_at``: the first is left at that batch.

    Args:
        device: Where training computes.
        staleness: As in the settings.
        overlap: Likewise.
        host: Whether node memory, the sampler and the features are on the host.
        hops: How many are sampled.
        leave_at: The batch of the first pass that is the last.
        commits: Whether that batch's commit is handed over before the pass is left.
        dropout: Of the attention.
    """
    torch.manual_seed(0)
    whole = stream()
    num_nodes, msg_dim = int(whole.dst.max()) + 1, whole.msg.size(1)
    data = whole if host else whole.clone().to(device)
    msg = TensorFeatures(whole.msg, pinned=device != "cpu") if host else None
    sampler = NeighborSampler(TemporalCSR.from_stream(data, num_nodes), [3] * hops)
    negatives = NegativeSampler.from_destinations(whole.dst, seed=1)
    to = torch.device(device)
    batches = Batches(data, range(180), BATCH, sampler, negatives, msg=msg, device=to)
    sizes = {"memory_dim": 8, "time_dim": 8, "embedding_dim": 8, "dropout": dropout}
    model = TGN(num_nodes, msg_dim, num_layers=hops, memory_device="cpu" if host else None, **sizes)
    objective = Objective(model, LinkPrediction(8)).to(to)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3, fused=True)
    losses, records, states = [], [], []
    for left in (leave_at, None):
        model.train()
        model.memory.state.clear(0)
        passing = PipelineEngine(
            batches,
            model.memory.state,
            device=to,
            staleness=parse_staleness(staleness),
            overlap={"always": True, "never": False, "auto": None}[overlap],
            on_record=records.append,
        )

        def commit(batch: Any, passing: Any = passing) -> None:
            passing.commit(model.commit(batch))

        flights = iter(passing)
        for flight in flights:
            batch = flight.batch.with_rows(flight.rows)
            if flight.index == left and not commits:
                break
            losses.append(train_step(objective, batch, [optimizer], commit=commit))
            if flight.index == left:
                break
        flights.close()
        states.append({name: x.tolist() for name, x in model.memory.state.save().items()})
    return {"losses": [loss.item() for loss in losses], "state": states, **sequence_of(records)}


def loaders(
    device: str,
    *,
    staleness: str,
    overlap: str = "always",
    leave_at: int | None = None,
    look: bool = False,
    aggregator: str = "last",
    hops: int = 1,
    dropout: float = 0.0,
) -> Numbers:
    """PyG's example loop through two loaders, one after the other, of training and of validation, for two epochs.

    Args:
        device: Where the memory is.
        staleness: As a loader takes it.
        overlap: Likewise.
        leave_at: The batch of the first epoch that is its last.
        look: Whether the whole memory is read in the middle of a pass.
        aggregator: Of messages: ``last`` or ``mean``.
        hops: How many are sampled.
        dropout: Of the attention.
    """
    torch.manual_seed(0)
    data = stream()
    num_nodes, msg_dim = int(data.dst.max()) + 1, data.msg.size(1)
    aggregators = {"last": LastAggregator, "mean": MeanAggregator}
    memory = TGNMemory(num_nodes, msg_dim, 8, 8, IdentityMessage(msg_dim, 8, 8), aggregators[aggregator]())
    conv = TransformerConv(8, 4, heads=2, dropout=dropout, edge_dim=msg_dim + 8)
    link_pred = LinkPredictor(8)
    modules = torch.nn.ModuleList([memory, conv, link_pred]).to(device)
    optimizer = torch.optim.Adam(modules.parameters(), lr=1e-3)
    options = {"batch_size": BATCH, "num_neighbors": [3] * hops, "neg_sampling_ratio": 1.0}
    options |= {"staleness": staleness, "overlap": overlap}
    records: list[Any] = []
    trained = PipelineLoader(data, memory, events=range(180), on_record=records.append, **options)
    checked = PipelineLoader(data, memory, events=range(180, 220), seed=1, **options)
    losses, scores, looks = [], [], []

    def predict(batch: Any) -> torch.Tensor:
        z, last_update = memory(batch.n_id)
        t_enc = memory.time_enc((last_update[batch.edge_index[0]] - batch.edge_time).to(z.dtype))
        z = conv(z, batch.edge_index, torch.cat([t_enc, batch.edge_attr], dim=-1))
        src, dst, neg_dst = (z[torch.searchsorted(batch.n_id, x)] for x in (batch.src, batch.dst, batch.neg_dst))
        return torch.cat([link_pred(src, dst), link_pred(src, neg_dst)])

    for epoch in range(2):
        modules.train()
        memory.reset_state()
        for index, batch in enumerate(trained):
            if look and index == 2:
                looks.append({name: x.tolist() for name, x in memory.memory_state().items()})
            optimizer.zero_grad()
            score = predict(batch)
            loss = bce(score, torch.arange(score.size(0), device=device).lt(batch.num_events).view(-1, 1).float())
            memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
            loss.backward()
            optimizer.step()
            memory.detach()
            losses.append(loss.detach())
            if epoch == 0 and index == leave_at:
                break
        modules.eval()
        with torch.no_grad():
            for batch in checked:
                scores.append(predict(batch))
                memory.update_state(batch.src, batch.dst, batch.t, batch.msg)
    state = {name: x.tolist() for name, x in memory.state_dict().items()}
    return {
        "losses": [loss.item() for loss in losses],
        "metrics": [{"mean_score": x.mean().item()} for x in scores],
        "state": [*looks, state],
        **sequence_of(records),
    }


def without_memory(device: str, *, staleness: str, overlap: str = "always") -> Numbers:
    """What a loader without a memory brings in two passes, the first of them left."""
    data, sums = stream(), []
    options = {"batch_size": BATCH, "num_neighbors": [3, 3], "neg_sampling_ratio": 1.0, "device": device}
    loader = PipelineLoader(data, None, staleness=staleness, overlap=overlap, **options)
    for last in (2, None):
        for index, batch in enumerate(loader):
            whole = (batch.src, batch.dst, batch.neg_dst, batch.n_id, batch.edge_index, batch.e_id, batch.edge_time)
            sums.append(torch.stack([x.sum() for x in whole]))
            if index == last:
                break
    loader.close()
    return {"losses": [x.tolist() for x in sums], "state": {}}


def made_on_device(device: str) -> Numbers:
    """What a memory has seen that was made within ``torch.device``, rather than moved there."""
    data = stream()[:BATCH].to(device)
    torch.manual_seed(0)
    with torch.device(device):
        memory = TGNMemory(50, 4, 8, 8, IdentityMessage(4, 8, 8), LastAggregator())
    memory.update_state(data.src, data.dst, data.t, data.msg)
    z, last_update = memory(data.src.unique())
    return {"losses": [z.shape[0]], "state": {"last_update": last_update.tolist()}}


class WaitingTGN(TGN):
    """Asks the device for a number in each step."""

    paddable = True

    def forward(self, batch: Any) -> torch.Tensor:
        z = super().forward(batch)
        return z * (1 + 0 * float(z.detach().sum()))


def waiting_model(device: str) -> Numbers:
    """Losses of a model that no graph can hold, and what was warned of."""
    losses: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, BatchTrained):
            losses.append(event.loss)

    config = TrainConfig(**{**SETTINGS, "device": device})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(stream(), config, executor=PaddingExecutor(), model=WaitingTGN, listeners=[listen]).fit()
    told = [str(each.message) for each in caught if "CUDA graphs" in str(each.message)]
    return {"losses": losses, "told": told}


def gpu_benchmark(device: str, *, stream: str) -> Numbers:
    """What ``python -m benchmarks run gpu`` measures, quickly."""
    result = BENCHMARK.run(Console(quiet=True), quick=True, changes={"stream": stream})
    return {"losses": [0.0], "result": result}


RUNS: dict[str, Callable[..., Numbers]] = {
    "train": train,
    "engine": engine,
    "loaders": loaders,
    "without_memory": without_memory,
    "made_on_device": made_on_device,
    "waiting_model": waiting_model,
    "gpu_benchmark": gpu_benchmark,
}
