"""Flags for the files that a run reads, its stream and features, and for where they are when the run resumes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pyg_mspipe.training.config import ConfigError, TrainConfig

_PANEL = "Reading the stream"

Features = Annotated[
    Path | None,
    typer.Option(
        help="A .npy file of event features instead of messages, one row for each event; read from the disk by rows.",
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


def row_notes(source: dict[str, Any], paths: dict[str, Path | None], labels: str) -> list[str]:
    """Returns notes on the order of feature rows, if reading the stream reorders its events or renumbers its nodes.

    Args:
        source: How the stream is loaded.
        paths: The files of ``features`` and ``node_features``, if any.
        labels: The file of labels, if there is one.
    """
    notes = []
    if paths["features"] is not None and source.get("sort"):
        notes.append("rows of --features are taken to be in the order of the sorted events")
    if paths["node_features"] is not None and source.get("relabel"):
        notes.append("rows of --node-features are taken to be in the order in which --relabel numbers the nodes")
    if labels and source.get("relabel"):
        notes.append("nodes of --labels are taken to be numbered as --relabel numbers them")
    return notes


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
