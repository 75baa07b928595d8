"""``mspipe train`` and ``resume``: runs and their folders."""

from __future__ import annotations

import itertools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import inputs
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.cli.errors import one_line_errors
from pyg_mspipe.cli.evaluate import evaluate as evaluate_run
from pyg_mspipe.cli.finished import finished, is_finished
from pyg_mspipe.cli.launch import Launch, launched
from pyg_mspipe.cli.outputs import check_file
from pyg_mspipe.cli.settings import read_toml, tables_of_settings
from pyg_mspipe.distributed.torchrun import torchrun_may_restart
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.run_folder import LAST, has_run

Run = Annotated[Path, typer.Argument(help="Folder of the run.", show_default=False)]

# The tables of a TOML file for the flags that are neither a setting nor say how to read the stream.
_TABLES = {"out": "output", "overwrite": "output", "evaluate": "output", "emulate": "parallel"}

Emulate = Annotated[bool, typer.Option("--emulate", help="Emulate all trainers of --parallel in one process.")]


def train(
    ctx: typer.Context,
    stream: options.Stream,
    reading: dict[str, Any],
    settings: dict[str, Any],
    features: inputs.Features = None,
    node_features: inputs.NodeFeatures = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with any of these flags as keys, in tables.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: the next free runs/STREAM-N).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that the folder has.")] = False,
    emulate: Emulate = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Then evaluate the best model, as mspipe evaluate.")
    ] = False,
) -> None:
    """Train a model on a stream: by default a TGN, to predict its links.

    The run's folder gets checkpoints (last.pt, best.pt) and metrics.jsonl. Ctrl-C leaves a checkpoint to resume from.

    Examples:
        mspipe train synthetic --epochs 3
        mspipe train events.npz --batch-size 600 --precision bf16 --out runs/events
        mspipe train clicks.csv --src user --dst item --time ts --bipartite --config clicks.toml
        mspipe train events.npz --model my_model.py:MyModel
        mspipe train events.npz --task node --embeddings runs/links
        mspipe train events.npz --protocol tgb --eval-negatives 100 --best-by mrr --evaluate
        mspipe train events.npz --features events.npy --node-features nodes.npy
        torchrun --nproc-per-node 4 -m pyg_mspipe train events.npz --parallel 1x2x2 --out runs/four
    """
    with one_line_errors(ctx):
        files = {"features": features, "node_features": node_features}
        values: dict[str, Any] = {"out": out, "overwrite": overwrite, "emulate": emulate, "evaluate": evaluate}
        values |= reading | files | settings
        if config is not None:
            hints = get_type_hints(train) | {name: get_args(kind)[0] for name, (kind, _) in options.READING.items()}
            tables = dict.fromkeys([*reading, *files], "stream") | tables_of_settings() | _TABLES
            from_file = read_toml(config, tables, {name: hints.get(name) for name in values if name not in settings})
            # A flag on the command line overrides the file.
            sources = {name: ctx.get_parameter_source(name) for name in values}
            typed = {name for name, where in sources.items() if where is not None and where.name == "COMMANDLINE"}
            values |= {name: value for name, value in from_file.items() if name not in typed}
        out, overwrite, emulate, evaluate = (values.pop(name) for name in ("out", "overwrite", "emulate", "evaluate"))
        given = {name: values.pop(name) for name in files}
        paths = {name: None if path is None else Path(path) for name, path in given.items()}
        chosen = TrainConfig(**{name: values.pop(name) for name in settings})
        chosen = inputs.with_whole_paths(chosen)
        values["root"] = Path(values["root"])
        source = options.source_of(stream, **values)
        _check_timeline(chosen)
        _check_classes(chosen)
        out = None if out is None else Path(out)
        with launched(chosen, emulate, "train ...") as launch:
            before = _before_restart(launch, out)
            folder = launch.first(lambda: _folder(stream, out, overwrite or before is not None))
            fields, stores = launch.load(lambda: inputs.open_files(source, paths, chosen))
            launch.echo(inputs.what_is_read(fields, chosen))
            for note in inputs.notes(source, fields, stores, chosen.labels):
                launch.echo(note)
            with loading():
                from pyg_mspipe.cli import fitting
                from pyg_mspipe.data.temporal_data import temporal_data
            trainer = fitting.make_trainer(launch, temporal_data(fields), folder, source, stores)
            if before is None:
                fitting.fit(launch, trainer, folder, replace=overwrite)
            else:
                fitting.go_on(launch, trainer, folder, before)
        if evaluate and launch.leads:
            evaluate_run(folder)


def resume(
    run: Run,
    stream: inputs.MovedStream = None,
    features: inputs.MovedFeatures = None,
    node_features: inputs.MovedNodeFeatures = None,
    labels: inputs.MovedLabels = None,
    epochs: Annotated[int | None, typer.Option(help="Train up to this many epochs instead.")] = None,
    device: Annotated[str | None, typer.Option(help="Continue on another device, which may round differently.")] = None,
    parallel: Annotated[str | None, typer.Option(help="Continue with another plan, from the sweep's start.")] = None,
    emulate: Emulate = False,
) -> None:
    """Continue a run from its last checkpoint, bit for bit.

    Examples:
        mspipe resume runs/clicks
        mspipe resume runs/clicks --epochs 20
        torchrun --nproc-per-node 4 -m pyg_mspipe resume runs/four
    """
    with one_line_errors():
        with loading():
            from pyg_mspipe.training.features import features_again
            from pyg_mspipe.training.run_checkpoint import load_run_checkpoint
            from pyg_mspipe.training.source import open_stream
        checkpoint = load_run_checkpoint(run / LAST)
        if epochs is not None:
            checkpoint["config"]["epochs"] = epochs
            checkpoint["progress"]["stopped"] = False
        inputs.move(checkpoint, stream, features, node_features, labels)
        if device is not None:
            checkpoint["config"]["device"] = device
        before = checkpoint["config"]["parallel"]
        chosen = TrainConfig(**checkpoint["config"] | {"parallel": parallel or before})
        source = checkpoint["source"]
        if is_finished(checkpoint["progress"], chosen.epochs):
            # Nothing is left to train, so no processes need to be connected.
            open_stream(source)
            if os.environ.get("RANK", "0") == "0":
                typer.echo(finished(run, checkpoint["progress"]))
            return
        with launched(chosen, emulate, f"resume {run}") as launch:
            kept = checkpoint["features"]
            data, stores = launch.load(lambda: (open_stream(source), features_again(kept, chosen, {})))
            with loading():
                from pyg_mspipe.cli import fitting
            fitting.go_on(launch, fitting.make_trainer(launch, data, run, source, stores), run, checkpoint)


def _check_timeline(config: TrainConfig) -> None:
    """Refuses a --timeline that cannot be written, before the run begins."""
    if config.timeline:
        check_file("--timeline", Path(config.timeline))


def _check_classes(config: TrainConfig) -> None:
    """Refuses a model or a task that does not suit the settings; what is built in suits all but mitigations."""
    if ":" in config.model + config.task or config.mitigation != "none":
        with loading():
            from pyg_mspipe.training.making import check_classes
        check_classes(config)


def _before_restart(launch: Launch, out: Path | None) -> dict[str, Any] | None:
    """Returns the last checkpoint of a run that torchrun has restarted; None if there is none.

    Raises:
        ConfigError: If torchrun may restart the run, but without --out each start would choose another folder.
    """
    if torchrun_may_restart() and out is None:
        raise ConfigError("torchrun's --max-restarts needs --out, so that a restarted run finds its checkpoint")
    if launch.world is None or not launch.world.restarted or out is None or not (out / LAST).is_file():
        return None
    from pyg_mspipe.training.run_checkpoint import load_run_checkpoint

    checkpoint = load_run_checkpoint(out / LAST)
    return checkpoint if checkpoint["config"] == asdict(launch.config) else None


def _folder(stream: str, out: Path | None, overwrite: bool) -> Path:
    """Returns the folder for a new run: one without a run, or whose run may be replaced."""
    if out is None:
        name = Path(stream).name.split(".")[0]
        return next(path for n in itertools.count(1) if not (path := Path("runs") / f"{name}-{n}").exists())
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder with --out")
    if not overwrite and has_run(out):
        raise ConfigError(f"{out} has a run already; mspipe resume {out}, give another --out, or add --overwrite")
    return out
