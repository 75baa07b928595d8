"""``mspipe baseline``: what link prediction comes to without a model."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.training.config import TrainConfig

SETTINGS = (
    "batch_size",
    "seed",
    "negatives",
    "protocol",
    "eval_negatives",
    "filtered",
    "val_ratio",
    "test_ratio",
    "val_time",
    "test_time",
)
"""The settings of a run that its evaluation depends on whatever the model."""


def baseline(ctx: typer.Context, stream: options.Stream, reading: dict[str, Any], settings: dict[str, Any]) -> None:
    """Evaluate link prediction without a model: EdgeBank, popularity, and how recently a pair met.

    The events and negatives are those that mspipe evaluate has for a run with the same settings. A model that is not
    better has learned little else.

    Examples:
        mspipe baseline clicks.csv --src user --dst item --time ts
        mspipe baseline wikipedia --protocol tgb --eval-negatives 100
    """
    with one_line_errors(ctx):
        config = TrainConfig(**settings)
        with loading():
            from pyg_mspipe.training.source import open_stream
        source = options.source_of(stream, **reading)
        data = open_stream(source)
        with loading():
            from pyg_mspipe.cli.metrics_table import table_of
            from pyg_mspipe.data import EventGroups, split_stream
            from pyg_mspipe.graph import NeighborSampler, TemporalCSR
            from pyg_mspipe.pipeline import Batches
            from pyg_mspipe.tasks import Baselines, evaluate_baselines
            from pyg_mspipe.training.eval_negatives import EvalNegatives
        split = split_stream(data, **config.split())
        groups, baselines = EventGroups.of(data, split), Baselines.of(data, split.train)
        sampler = NeighborSampler(TemporalCSR.from_stream(data), [])
        rows: dict[tuple[str, ...], dict[str, str]] = {}
        console = Console()
        negatives = EvalNegatives(
            config, data, split, sampler.csr.num_nodes, num=config.eval_negatives, source=source, folder=None
        )
        for part in ("val", "test"):
            with console.status("evaluating"):
                batches = Batches(data, getattr(split, part), config.batch_size, sampler, negatives.of(part))
                for name, metrics in evaluate_baselines(baselines, batches, groups).items():
                    columns = metrics.columns()
                    columns.pop("count")
                    rows[part, name.replace("_", " ")] = columns
        told = f"{len(split.val):,} val and {len(split.test):,} test events; protocol {config.protocol}"
        console.print(table_of(rows, ["events", "baseline"], told))
