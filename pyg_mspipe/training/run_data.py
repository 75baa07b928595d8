"""What a run reads, checked and put together: stream, features, labels, and the parts that the stream is split into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_geometric.data import TemporalData

from pyg_mspipe.data import EventGroups, Labels, StreamSplit, check_stream, read_labels, split_stream
from pyg_mspipe.data.named import TGB_NAMES, read_tgb_labels
from pyg_mspipe.data.stream_folder import folder_of
from pyg_mspipe.tasks.registry import find_task
from pyg_mspipe.training.checkpoint import fingerprint
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.features import RunFeatures
from pyg_mspipe.training.making import MakeTask, takes


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes:
        stream: The checked stream, without messages of its own where events have features.
        split: Its parts.
        groups: The groups of the stream's events, that metrics are told apart by.
        labels: The labels that the task takes, if any.
        fingerprint: Digest of stream and labels.
    """

    stream: TemporalData
    split: StreamSplit
    groups: EventGroups
    labels: Labels | None
    fingerprint: str


def run_data(
    data: TemporalData,
    config: TrainConfig,
    features: RunFeatures,
    labels: Labels | None,
    *,
    task: MakeTask | None,
    source: Mapping[str, Any],
) -> RunData:
    """Returns the data of a run.

    Args:
        data: The stream.
        config: The run's settings.
        features: The features beside the stream.
        labels: The labels, if not those that settings or stream have.
        task: Makes the task, instead of the settings' one.
        source: How the stream was loaded.

    Raises:
        StreamError: If the stream cannot be used, a split has no events, or features or labels do not fit.
        ConfigError: If the settings name labels that the task does not take.
    """
    stream = features.read_with(check_stream(data))
    split = split_stream(stream, **config.split())
    if labels is None:
        labels = _labels_of(stream, config, task, source)
    return RunData(stream, split, EventGroups.of(stream, split), labels, fingerprint(stream, labels))


def _labels_of(
    data: TemporalData, config: TrainConfig, task: MakeTask | None, source: Mapping[str, Any]
) -> Labels | None:
    """Returns the labels of a run whose task takes some: those of its file, or else of the stream's events; or none."""
    make = task or find_task(config.task)
    if not takes(make, "labels"):
        if config.labels:
            raise ConfigError(f"task {config.task} takes no labels; leave out labels, or choose task node or property")
        return None
    name = source.get("name_or_path")
    if not config.labels and name in TGB_NAMES and name.startswith("tgbn-"):
        return Labels.at(data, *read_tgb_labels(name, Path(source.get("root", "data"))))
    if not config.labels:
        return Labels.of_stream(data) if "y" in data else None
    if not getattr(make, "own_moments", True):
        raise ConfigError(
            f"task {config.task} is about events, and the labels of a file are of nodes; leave out labels, or choose "
            f"task node"
        )
    folder = folder_of(data)
    scale = source.get("time_scale") if folder is None else folder.manifest["reading"]["time_scale"]
    return read_labels(Path(config.labels), data, time_scale=scale)
