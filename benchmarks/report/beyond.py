"""What large streams would cost, from measured costs and the sizes that the code gives: the tables of a page.

The formulas are those of ``docs/beyond_one_machine.md``, with its symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.benchmark import Result
from benchmarks.report.markdown import table
from pyg_mspipe import TGN, LinkPredictor
from pyg_mspipe.memory import RowState
from pyg_mspipe.memory.stream_memory import node_tables

FEATURES = 172
MEMORY = 100
BATCH = 600
TRAINED = 0.7
DATA_BYTES = 3 * 8
"""Of src, dst and t for each event."""
NETWORK = 10e9 / 8
"""Bytes in a second of the link that is taken as an example."""


@dataclass(frozen=True)
class Stream:
    """A stream that nobody has run here."""

    name: str
    events: int
    nodes: int

    @property
    def trained(self) -> float:
        """Events that are trained on."""
        return TRAINED * self.events


STREAMS = (Stream("GDELT", 191_000_000, 16_682), Stream("MAG", 1_300_000_000, 121_750_000))
HOSTS = ((2, 1, "two hosts, one trainer each"), (8, 4, "two hosts, four each"), (16, 8, "two hosts, eight each"))
"""Trainers, and trainers on each host."""


def node_bytes() -> int:
    """Bytes of a node's state."""
    sizes = [RowState(node_tables(nodes, MEMORY, "meta")).nbytes for nodes in (0, 1)]
    return sizes[1] - sizes[0]


def gradient_bytes(msg_dim: int) -> int:
    """Bytes of the gradients of the built-in TGN and its link predictor."""
    model = TGN(2, msg_dim, memory_dim=MEMORY)
    weights = [*model.parameters(), *LinkPredictor(model.embedding_dim).parameters()]
    return sum(each.nbytes for each in weights)


def symbols(growth: Result, training: Result, disk: Result) -> str:
    """The values that the other tables are computed from."""
    columns = gradient_bytes(1) - gradient_bytes(0)
    rows = [
        [r"$E$, $N$", "events, nodes", "; ".join(f"{s.name}: {s.events:,}, {s.nodes:,}" for s in STREAMS), "TGL"],
        [r"$\alpha$", "share of events that is trained on", f"{TRAINED}", "the default split"],
        ["$F$", "width of the features, float32", f"0 or {FEATURES}", "that of Wikipedia and Reddit"],
        ["$D$", "width of node memory, float32", f"{MEMORY}", "the default"],
        ["$B$", "events in a trainer's batch", f"{BATCH}", "what the rates below were measured with"],
        ["$c$", "bytes of the history for each event", f"{_history(growth):.0f}", "`growth.json`"],
        ["$d$", "bytes of `src`, `dst`, `t` for each event, int64", f"{DATA_BYTES}", "their types"],
        ["$n$", "bytes of state for each node", f"$4D + {node_bytes() - 4 * MEMORY}$ = {node_bytes()}", "the code"],
        ["$G$", "bytes of gradients", f"{gradient_bytes(0):,} + {columns:,} $F$", "the built-in TGN"],
        [
            "$r$",
            "events trained in a second by one trainer",
            f"{_in_memory(training):,.0f} in memory; {_out_of_core(disk):,.0f} out of core, two hops",
            "`tgn_training.json`, fp32, 2 threads; `pipeline_modes_disk.json`, `exact`, 1 thread",
        ],
    ]
    commands = "\n".join(f"    python -m benchmarks run {each['benchmark']}" for each in (growth, training, disk))
    return f"{commands}\n\n{table(['symbol', 'meaning', 'value here', 'from'], rows)}"


def memory(growth: Result) -> str:
    """What events, features and nodes take."""
    history, node = _history(growth), node_bytes()
    items: list[tuple[str, str, Callable[[Stream], float]]] = [
        ("history", "$cE$", lambda s: history * s.events),
        ("sources, destinations, times", "$dE$", lambda s: DATA_BYTES * s.events),
        (f"features, $F = {FEATURES}$", "$4FE$", lambda s: 4 * FEATURES * s.events),
        (f"features, $F = {FEATURES}$, float16 in a file", "$2FE$", lambda s: 2 * FEATURES * s.events),
        ("**a memory**", "$nN$", lambda s: node * s.nodes),
        ("**a process, without features**", "$(c + d) E$", lambda s: (history + DATA_BYTES) * s.events),
    ]
    rows = [[label, formula, *(_gigabytes(cost(each)) for each in STREAMS)] for label, formula, cost in items]
    return table(["", "formula", *(each.name for each in STREAMS)], rows)


def traffic() -> str:
    """What crosses the network."""
    headings = ["", "$W$", "$p$", f"sent by a host in a step, $F = 0$ / {FEATURES}"]
    rows = []
    for trainers, here, label in HOSTS:
        share = 2 * here * (trainers - here) / trainers
        sent = [share * gradient_bytes(width) for width in (0, FEATURES)]
        row = [label, str(trainers), str(here), " / ".join(f"{each / 1e6:.2f}" for each in sent) + " MB"]
        for each in STREAMS:
            steps = each.trained / (BATCH * trainers)
            row += [f"{steps:,.0f}", " / ".join(f"{steps * one / 1e9:,.0f}" for one in sent) + " GB"]
        rows.append(row)
    for each in STREAMS:
        headings += [f"{each.name}: steps", "sent in an epoch"]
    return table(headings, rows)


def hours(training: Result, disk: Result) -> str:
    """What one trainer needs for an epoch, and what the network adds between two."""
    sent = gradient_bytes(0) / (2 * BATCH)
    rows = [
        [r"events trained, $\alpha E$", *(f"{each.trained / 1e6:,.1f} million" for each in STREAMS)],
        ["in memory", *(f"{each.trained / _in_memory(training) / 3600:.1f} h" for each in STREAMS)],
        ["out of core, two hops", *(f"{each.trained / _out_of_core(disk) / 3600:.1f} h" for each in STREAMS)],
        [
            r"$T_{\text{epoch}} / b$ of two hosts at 10 Gbit/s, $F = 0$",
            *(f"{each.trained * sent / NETWORK:,.0f} s" for each in STREAMS),
        ],
    ]
    return table(["", *(each.name for each in STREAMS)], rows)


def _history(growth: Result) -> float:
    largest: float = growth["by_events"][-1]["history_bytes_per_event"]
    return largest


def _in_memory(training: Result) -> float:
    (run,) = (each for each in training["runs"] if each["batch_size"] == BATCH)
    (rate,) = (each["median"] for each in run["variants"] if each["name"] == "TGN fp32")
    return float(rate)


def _out_of_core(disk: Result) -> float:
    (rate,) = (row["events_per_second"] for row in disk["rows"] if (row["mode"], row["threads"]) == ("exact", 1))
    return float(rate)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3f} GB" if size < 1e8 else f"{size / 1e9:,.1f} GB"
