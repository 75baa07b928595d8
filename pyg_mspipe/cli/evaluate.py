"""``mspipe evaluate``: how well the best model of a run does on later events, by any protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pyg_mspipe._choices import ProtocolName
from pyg_mspipe._loading import loading
from pyg_mspipe.cli import inputs
from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.cli.outputs import check_file
from pyg_mspipe.data.atomic_write import atomic_write
from pyg_mspipe.training.config import ConfigError
from pyg_mspipe.training.run_folder import BEST, EVALUATION

if TYPE_CHECKING:
    from pyg_mspipe.tasks import Metrics
    from pyg_mspipe.training import Trainer

_PANEL = "Protocol"
Run = Annotated[Path, typer.Argument(help="Folder of the run.", show_default=False)]
Protocol = Annotated[
    ProtocolName | None,
    typer.Option(
        help="What events are ranked among: random, historical, inductive or tgb (default: the run's).",
        rich_help_panel=_PANEL,
    ),
]
EvalNegatives = Annotated[
    int | None, typer.Option(help="Negatives for each event (default: the run's).", rich_help_panel=_PANEL)
]
Filtered = Annotated[
    bool | None,
    typer.Option(
        "--filtered/--no-filtered",
        help="Leave out negatives that are true events at the event's time (default: as the run).",
        rich_help_panel=_PANEL,
    ),
]
Candidates = Annotated[
    Path | None,
    typer.Option(
        help="A file of what each test event is ranked among: columns event and dst, or a .npy array with a row for "
        "each test event, as TGB-Seq has it.",
        rich_help_panel=_PANEL,
    ),
]
Seeds = Annotated[
    int,
    typer.Option(help="Draw negatives with this many seeds; tells mean and deviation.", rich_help_panel=_PANEL, min=1),
]
Ranks = Annotated[
    Path | None, typer.Option(help="Write the rank of every event among its negatives to this Parquet file.")
]


def evaluate(
    run: Run,
    protocol: Protocol = None,
    eval_negatives: EvalNegatives = None,
    filtered: Filtered = None,
    candidates: Candidates = None,
    seeds: Seeds = 1,
    ranks: Ranks = None,
    stream: inputs.MovedStream = None,
    features: inputs.MovedFeatures = None,
    node_features: inputs.MovedNodeFeatures = None,
    labels: inputs.MovedLabels = None,
) -> None:
    """Evaluate the best model of a run on its validation and test events; writes evaluation.json.

    Examples:
        mspipe evaluate runs/clicks
        mspipe evaluate runs/clicks --protocol tgb --eval-negatives 100 --ranks ranks.parquet
        mspipe evaluate runs/clicks --protocol historical --filtered --seeds 5
        mspipe evaluate runs/clicks --candidates candidates.parquet
    """
    with one_line_errors():
        if ranks is not None:
            _check_ranks(ranks, candidates, seeds)
        with loading():
            from pyg_mspipe.training.run_checkpoint import load_run_checkpoint
            from pyg_mspipe.training.source import open_stream
        checkpoint = load_run_checkpoint(run / BEST)
        inputs.move(checkpoint, stream, features, node_features, labels)
        given = {"protocol": protocol, "eval_negatives": eval_negatives, "filtered": filtered}
        asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        checkpoint["config"] |= asked | {"parallel": "1x1x1"}
        console = Console()
        data = open_stream(checkpoint["source"])
        with loading():
            from pyg_mspipe.cli.metrics_table import spread_of, tables_of
            from pyg_mspipe.tasks import LinkPrediction, rank_table, write_ranks
            from pyg_mspipe.tasks.protocols import read_candidates
            from pyg_mspipe.training import Trainer, keep_freed_memory
        keep_freed_memory()
        trainer = Trainer.resume(data, checkpoint, run, console=console)
        asked |= {"candidates": candidates, "ranks": ranks, "seeds": seeds if seeds > 1 else None}
        meant = [name.replace("_", "-") for name, value in asked.items() if value is not None]
        if meant and not isinstance(trainer.task, LinkPrediction):
            raise ConfigError(f"--{meant[0]} is for link prediction; the run's task is {trainer.config.task}; omit it")
        if candidates is not None:
            trainer.batches.rank_among("test", read_candidates(candidates, trainer.data, trainer.split.test))
        ranked: list[Any] = []

        def keep(events: range, scores: Sequence[Any]) -> None:
            if ranks is not None:
                part = ("val", "test")[len(ranked)]
                ranked.append(rank_table(trainer.data, part, events, scores, trainer.groups))

        found: list[dict[str, Metrics]] = []
        for number in range(seeds):
            trainer.batches.eval_seed = trainer.config.seed + number
            with console.status("evaluating" if seeds == 1 else f"evaluating, seed {number + 1} of {seeds}"):
                found.append(trainer.test(checkpoint, keep))
        if ranks is not None:
            write_ranks(ranks, ranked)
        epoch, how = checkpoint["progress"]["best_epoch"] + 1, _how(trainer, candidates)
        result = {"epoch": epoch, **how, **_result(found)}
        with atomic_write(run / EVALUATION) as file:
            file.write(f"{json.dumps(result, indent=2)}\n".encode())
        told = f"{run}, epoch {epoch}; " + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in how.items())
        if seeds == 1:
            console.print(*tables_of(trainer.task, found[0], told), sep="\n")
        else:
            console.print(spread_of(found, f"{told}; mean and deviation of {seeds} seeds"))


def _how(trainer: Trainer, candidates: Path | None) -> dict[str, str]:
    """Returns what the metrics depend on beside model and stream."""
    config = trainer.config
    how: dict[str, str] = {"cut_off": config.cut_off}
    if not trainer.task.eval_negatives:
        return how
    how |= {"protocol": f"{config.protocol}, filtered" if config.filtered else config.protocol}
    how |= {"negatives": config.negatives}
    if candidates is not None:
        how["candidates"] = str(candidates)
    return how


def _check_ranks(ranks: Path, candidates: Path | None, seeds: int) -> None:
    """Refuses a --ranks that cannot be written, or has no meaning, before anything takes time."""
    check_file("--ranks", ranks)
    if candidates is not None and ranks.resolve() == candidates.resolve():
        raise ConfigError(f"--ranks {ranks} would replace --candidates; give another file")
    if seeds > 1:
        raise ConfigError(f"--ranks has room for one rank of an event, and --seeds is {seeds}; omit either")


def _result(found: Sequence[dict[str, Metrics]]) -> dict[str, Any]:
    """Returns the metrics by part, plain values; of several seeds their means and deviations, and those of each."""
    each = [{part: asdict(metrics) for part, metrics in one.items()} for one in found]
    if len(each) == 1:
        return each[0]
    spread = {part: _spread([one[part] for one in each]) for part in each[0]}
    return {"seeds": len(each), "each": each} | spread


def _spread(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns mean and deviation of each metric that is a number."""
    numbers = [name for name, value in rows[0].items() if isinstance(value, float)]
    values = {name: [row[name] for row in rows] for name in numbers}
    return {name: {"mean": fmean(each), "stdev": stdev(each)} for name, each in values.items()}
