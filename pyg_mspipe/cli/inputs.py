"""Flags for the files that a run reads, its stream and features, and for where they are when the run resumes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyg_mspipe._loading import loading
from pyg_mspipe.cli import stream_options as options
from pyg_mspipe.training.config import ConfigError, TrainConfig

if TYPE_CHECKING:
    from pyg_mspipe.data import FeatureStore
    from pyg_mspipe.data.validation import Fields

_PANEL = "Reading the stream"

Features = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file of event features instead of messages, one row for each event; read from the disk by rows. "
        "A first row of zeros more than that, for index 0, is left out.",
        rich_help_panel=_PANEL,
    ),
]
NodeFeatures = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file of node features, one row for each node; read from the disk by rows.", rich_help_panel=_PANEL
    ),
]
MovedStream = Annotated[Path | None, typer.Option(help="Where the stream's file is now, if it was moved.")]
MovedFeatures = Annotated[Path | None, typer.Option(help="Where the file of event features is now.")]
MovedNodeFeatures = Annotated[Path | None, typer.Option(help="Where the file of node features is now.")]
MovedLabels = Annotated[Path | None, typer.Option(help="Where the file of labels is now.")]


def with_whole_paths(config: TrainConfig) -> TrainConfig:
    """Returns settings whose paths are found from other folders too.

    Args:
        config: The settings.
    """
    paths = {name: getattr(config, name) for name in ("labels", "embeddings")}
    whole: dict[str, Any] = {name: str(Path(path).resolve()) if path else "" for name, path in paths.items()}
    return replace(config, model=_with_whole_path(config.model), task=_with_whole_path(config.task), **whole)


def _with_whole_path(name: str) -> str:
    """Returns ``FILE.py:CLASS`` with the whole path of the file, and other names as they are."""
    file, colon, attribute = name.rpartition(":")
    return f"{Path(file).resolve()}:{attribute}" if colon else name


def open_files(
    source: dict[str, Any], paths: dict[str, Path | None], config: TrainConfig
) -> tuple[Fields, dict[str, FeatureStore | None]]:
    """Returns the fields of a run's stream, and its features, by the trainer's argument.

    Features of events in DyGLib's form have one row more, of zeros, before that of the first event: it is left out.

    Args:
        source: How the stream is loaded.
        paths: The files of ``features`` and ``node_features``, if any.
        config: The run's settings.

    Raises:
        StreamError: If a file cannot be used, or features do not fit the events or nodes.
    """
    with loading():
        import torch

        from pyg_mspipe.data import MappedFeatures
        from pyg_mspipe.data.feature_store import check_features
        from pyg_mspipe.data.stream_folder import num_nodes_of
        from pyg_mspipe.training.features import open_features
        from pyg_mspipe.training.source import open_fields
    fields = open_fields(source)
    stores = open_features(paths, config)
    of_events = stores["features"]
    if isinstance(of_events, MappedFeatures) and of_events.num_rows == len(fields["t"]) + 1:
        first = of_events.read(torch.tensor([0]))
        if not first.any():
            stores["features"] = MappedFeatures(of_events.path, of_events.pinned, skip=1)
    num_nodes = num_nodes_of(fields)
    check_features(stores["features"], stores["node_features"], num_events=len(fields["t"]), num_nodes=num_nodes)
    return fields, stores


def what_is_read(fields: Fields, config: TrainConfig) -> str:
    """Returns a line on what a run is about to train on: events, nodes and parts of its stream, model and task.

    Args:
        fields: Of the stream.
        config: The run's settings.

    Raises:
        StreamError: If a part of the stream has no events.
    """
    from pyg_mspipe.data import split_stream
    from pyg_mspipe.data.stream_folder import count_nodes_of

    split = split_stream(fields, **config.split())
    parts = f"{len(split.train):,} train, {len(split.val):,} val and {len(split.test):,} test events"
    model = f"embeddings {config.embeddings}" if config.embeddings else f"model {config.model}"
    return f"{len(fields['t']):,} events, {count_nodes_of(fields):,} nodes: {parts}; {model}, task {config.task}"


def notes(source: dict[str, Any], fields: Fields, stores: dict[str, FeatureStore | None], labels: str) -> Iterator[str]:
    """Yields notes on what was taken for what as the files of a run were read.

    Args:
        source: How the stream is loaded.
        fields: Of the stream.
        stores: Its features, by the trainer's argument.
        labels: The file of labels, if there is one.
    """
    from pyg_mspipe.data import MappedFeatures

    unused = None if fields["msg"].size(1) or stores["features"] else options.column_note(source)
    times = options.time_note(source, int(fields["t"][0]), int(fields["t"][-1]))
    yield from (note for note in (options.form_note(source), times, unused) if note is not None)
    of_events = stores["features"]
    if isinstance(of_events, MappedFeatures) and of_events.skip:
        yield "the first row of --features is left out: it is zeros, and there is one row more than events"
    if of_events is not None and source.get("sort"):
        yield "rows of --features are taken to be in the order of the sorted events"
    if stores["node_features"] is not None and source.get("relabel"):
        yield "rows of --node-features are taken to be in the order in which --relabel numbers the nodes"
    if labels and source.get("relabel"):
        yield "nodes of --labels are taken to be numbered as --relabel numbers them"


def move(
    checkpoint: dict[str, Any],
    stream: Path | None,
    features: Path | None,
    node_features: Path | None,
    labels: Path | None,
) -> None:
    """Writes into a checkpoint where the files of its run are now; loading it checks their content.

    Args:
        checkpoint: The checkpoint, changed here.
        stream: The stream's new file, if it was moved.
        features: The new file of event features, if it was moved.
        node_features: The new file of node features, if it was moved.
        labels: The new file of labels, if it was moved.

    Raises:
        ConfigError: If the stream is not where it was, or the run has no such features or labels.
    """
    if labels is not None:
        if not checkpoint["config"]["labels"]:
            raise ConfigError("the run was trained without --labels; leave it out")
        checkpoint["config"]["labels"] = str(labels.resolve())
    for name, path in {"features": features, "node_features": node_features}.items():
        if path is None:
            continue
        if name not in checkpoint["features"]:
            raise ConfigError(f"the run was trained without --{name.replace('_', '-')}; leave it out")
        checkpoint["features"][name]["path"] = str(path.resolve())
    if stream is not None:
        checkpoint["source"]["name_or_path"] = str(stream.resolve())
        return
    path = Path(checkpoint["source"].get("name_or_path", ""))
    if path.is_absolute() and not path.exists():
        raise ConfigError(f"{path}, the run's stream, does not exist; if moved, give its new place with --stream")


def similar_cache(source: dict[str, Any]) -> Path | None:
    """Returns the file that keeps similar nodes, beside the stream's own file; None if it cannot be written there.

    Args:
        source: How the stream is loaded.
    """
    path = Path(source["name_or_path"])
    if not path.is_file() or not os.access(path.parent, os.W_OK):
        return None
    return path.with_name(f"{path.name}.similar.npz")
