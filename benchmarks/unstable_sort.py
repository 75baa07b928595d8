"""What PyG's classes make of their unstable sorts: last neighbours that are missed, and messages that win a tie.

``LastNeighborLoader.insert`` sorts a batch's events by node and gives each the next of ``size`` places, in turns. Of a
node with more events than places those remain that the sort has put last, and these need not be the last in time.
``TGNMemory`` sorts likewise before it lists the messages that wait for a node, of which ``LastAggregator`` takes the
first at the latest time where torch_scatter is installed. Nothing here is timed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from rich.table import Table
from torch import Tensor
from torch_geometric.data import TemporalData
from torch_geometric.nn.models.tgn import IdentityMessage, LastAggregator, LastNeighborLoader, TGNMemory
from torch_geometric.utils import scatter

from benchmarks.harness.benchmark import Benchmark, Result, Run, find_stream
from benchmarks.peers.stable_sort import stable_sort
from pyg_mspipe import NeighborSampler, TemporalCSR, load_stream


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        streams: Where there is no such file, a synthetic one with as many events.
        events: At most so many, the first, of each stream.
        batch_size: Events in a batch.
        neighbors: How many last neighbours are kept.
    """

    streams: tuple[str, ...] = ("wikipedia", "collegemsg", "congress_bills")
    events: int = 200_000
    batch_size: int = 200
    neighbors: int = 10


def measure(settings: Settings, run: Run) -> Result:
    """Counts, stream by stream."""
    rows = []
    for name in settings.streams:
        path = find_stream(name)
        data = load_stream("synthetic", num_events=settings.events) if path is None else load_stream(path)
        data = data[: settings.events]
        row: Result = {"stream": name if path else "synthetic", "events": data.num_events}
        row["neighbors"] = _missed(data, settings, stable=False)
        row["neighbors_stable"] = _missed(data, settings, stable=True)
        row["ties"] = _ties(data, settings.batch_size, stable=False)
        row["ties_stable"] = _ties(data, settings.batch_size, stable=True)
        rows.append(row)

    size, kept = settings.batch_size, settings.neighbors
    table = Table("", "last neighbours", "PyG misses", "stably sorted", "ours miss", title=f"batch {size}, last {kept}")
    for row in rows:
        found, stable = row["neighbors"], row["neighbors_stable"]
        table.add_row(
            row["stream"], *(f"{each:,}" for each in (found["true"], found["pyg"], stable["pyg"], found["ours"]))
        )
    run.console.print(table)
    table = Table("", "ties", "first event", "last event", "another", title=f"messages that PyG takes, batch {size}")
    for row in rows:
        for label, ties in ((row["stream"], row["ties"]), ("stably sorted", row["ties_stable"])):
            table.add_row(label, *(f"{ties[each]:,}" for each in ("nodes", "first", "last", "another")))
    run.console.print(table)
    return {"rows": rows}


def _missed(data: TemporalData, settings: Settings, *, stable: bool) -> dict[str, int]:
    """Returns how many last neighbours the nodes of all batches have, and how many of them each sampler misses."""
    loader = LastNeighborLoader(int(torch.maximum(data.src, data.dst).max()) + 1, settings.neighbors)
    sampler = NeighborSampler(TemporalCSR.from_stream(data), [settings.neighbors])
    history: defaultdict[int, deque[tuple[int, int]]] = defaultdict(lambda: deque(maxlen=settings.neighbors))
    counts = {"true": 0, "pyg": 0, "ours": 0}
    for first in range(0, data.num_events, settings.batch_size):
        batch = data[first : first + settings.batch_size]
        n_id = torch.cat([batch.src, batch.dst]).unique()
        true = Counter((node, e_id, other) for node in n_id.tolist() for e_id, other in history[node])
        counts["true"] += true.total()
        for name, found in (("pyg", loader(n_id)), ("ours", sampler(n_id, first))):
            counts[name] += (true - _edges(*found)).total()
        with stable_sort() if stable else nullcontext():
            loader.insert(batch.src, batch.dst)
        for e_id, (src, dst) in enumerate(zip(batch.src.tolist(), batch.dst.tolist(), strict=True), start=first):
            history[src].append((e_id, dst))
            history[dst].append((e_id, src))
    return counts


def _edges(n_id: Tensor, edge_index: Tensor, e_id: Tensor) -> Counter[tuple[int, int, int]]:
    """Returns node, event and neighbour of each edge."""
    neighbor, node = n_id[edge_index].tolist()
    return Counter(zip(node, e_id.tolist(), neighbor, strict=True))


class _Ties(LastAggregator):
    """PyG's, which counts the nodes with several events at their latest time by the event whose message it takes.

    Messages hold a column each of the two memories, then the event id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"nodes": 0, "first": 0, "last": 0, "another": 0}

    def forward(self, msg: Tensor, index: Tensor, t: Tensor, dim_size: int) -> Tensor:
        """Returns what PyG's returns."""
        out: Tensor = super().forward(msg, index, t, dim_size)
        latest = t == scatter(t, index, 0, dim_size, reduce="max")[index]
        events: defaultdict[int, set[float]] = defaultdict(set)
        for node, event in zip(index[latest].tolist(), msg[latest, 2].tolist(), strict=True):
            events[node].add(event)
        for node, tied in events.items():
            if len(tied) > 1:
                taken = float(out[node, 2])
                self.counts["nodes"] += 1
                self.counts["first" if taken == min(tied) else "last" if taken == max(tied) else "another"] += 1
        return out


def _ties(data: TemporalData, batch_size: int, *, stable: bool) -> dict[str, int]:
    """Returns how many nodes have several events at their latest time within a batch, and which of them PyG takes."""
    num_nodes, aggregator = int(torch.maximum(data.src, data.dst).max()) + 1, _Ties()
    memory = TGNMemory(num_nodes, 1, 1, 1, message_module=IdentityMessage(1, 1, 1), aggregator_module=aggregator)
    event = torch.arange(data.num_events).float().unsqueeze(1)  # exact up to 2^24
    with stable_sort() if stable else nullcontext(), torch.no_grad():
        for first in range(0, data.num_events, batch_size):
            batch = data[first : first + batch_size]
            memory.update_state(batch.src, batch.dst, batch.t, event[first : first + batch_size])
    return aggregator.counts


BENCHMARK = Benchmark(
    "unstable_sort",
    "last neighbours that PyG's loader misses, and which message of a tie it takes",
    2,
    measure,
    Settings(),
    quick=replace(Settings(), streams=("synthetic",), events=2_000),
)
