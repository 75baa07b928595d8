"""Features that a run reads by id: what a checkpoint keeps of them, and how a resumed run finds them again."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pyg_mspipe.data import FeatureStore, MappedFeatures
from pyg_mspipe.data.feature_store import check_features
from pyg_mspipe.data.stream_folder import num_nodes_of
from pyg_mspipe.training.checkpoint import CheckpointError
from pyg_mspipe.training.config import TrainConfig
from pyg_mspipe.training.device import pick_device

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData

# Features up to this size have a digest of all rows, larger ones of some rows, few enough for a slow disk.
_DIGEST_BYTES = 1 << 26
_DIGEST_ROWS = 256

# The arguments of a trainer, and how error messages call them.
_WORDS = {"features": "event features", "node_features": "node features"}


@dataclass(frozen=True)
class RunFeatures:
    """The features that a run has beside its stream.

    Attributes:
        events: Features of the events, in place of the stream's messages.
        nodes: Features of the nodes.
    """

    events: FeatureStore | None = None
    nodes: FeatureStore | None = None

    @property
    def node_dim(self) -> int:
        """Width of the node features; 0 without any."""
        return 0 if self.nodes is None else self.nodes.width

    @cached_property
    def kept(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps, by the trainer's argument: digest and file; no file for features in memory.

        With a file, how many of its rows are left out at the beginning.
        """
        given = {"features": self.events, "node_features": self.nodes}
        return {
            name: {
                "digest": features_digest(store),
                "path": str(store.path.resolve()) if isinstance(store, MappedFeatures) else "",
                "skip": store.skip if isinstance(store, MappedFeatures) else 0,
            }
            for name, store in given.items()
            if store is not None
        }

    @property
    def digests(self) -> dict[str, str]:
        """The digest of the features, by the trainer's argument."""
        return {name: each["digest"] for name, each in self.kept.items()}

    def msg_dim(self, data: TemporalData) -> int:
        """Returns the width of the messages of a stream's events."""
        return int(data.msg.size(1)) if self.events is None else self.events.width

    def read_with(self, data: TemporalData) -> TemporalData:
        """Returns a stream as a run uses it: without messages of its own where events have features.

        Args:
            data: The checked stream.

        Raises:
            StreamError: If the features do not fit its events or nodes.
        """
        num_nodes = num_nodes_of(data) if self.nodes is not None else 0
        check_features(self.events, self.nodes, num_events=data.num_events, num_nodes=num_nodes)
        if self.events is None:
            return data
        bare = copy.copy(data)
        bare.msg = data.msg.new_empty(data.num_events, 0)
        return bare


def features_digest(store: FeatureStore) -> str:
    """Returns a digest of shape, dtype and rows, by which a checkpoint knows its features.

    It covers all rows up to 64 MiB of them, and 256 evenly spaced ones of more.
    """
    ids, last = torch.arange(store.num_rows), store.num_rows - 1
    if store.num_rows * store.width * store.dtype.itemsize > _DIGEST_BYTES:
        ids = torch.arange(_DIGEST_ROWS).mul(last).div(_DIGEST_ROWS - 1, rounding_mode="floor").unique()
    rows = store.read(ids)
    digest = hashlib.blake2b(f"{store.num_rows} {store.width} {store.dtype}".encode(), digest_size=16)
    digest.update(rows.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def open_features(
    paths: Mapping[str, Path | None], config: TrainConfig, skip: Mapping[str, int] | None = None
) -> dict[str, FeatureStore | None]:
    """Returns features from files, by the trainer's argument.

    Args:
        paths: The files by the trainer's argument; None where the run has no such features.
        config: The run's settings.
        skip: How many rows at the beginning of a file are left out, if any.

    Raises:
        StreamError: If a file cannot be used.
    """
    pinned = pick_device(config.device).type == "cuda"
    left_out = skip or {}
    return {
        name: None if path is None else MappedFeatures(path, pinned, left_out.get(name, 0))
        for name, path in paths.items()
    }


def features_again(
    kept: Mapping[str, Mapping[str, Any]], config: TrainConfig, given: Mapping[str, FeatureStore | None]
) -> dict[str, FeatureStore | None]:
    """Returns the features of a run that resumes, by the trainer's argument.

    Args:
        kept: What the run's checkpoint keeps of its features.
        config: The run's settings.
        given: Features to take instead of opening the run's files, by the trainer's argument.

    Raises:
        CheckpointError: If features were in memory and are not given, or a file is not where it was.
        StreamError: If a file cannot be used.
    """
    stores = {name: given.get(name) for name in _WORDS}
    paths = {name: Path(kept[name]["path"]) for name in kept if stores[name] is None}
    for name, path in paths.items():
        words = _WORDS[name]
        if not kept[name]["path"]:
            raise CheckpointError(f"the run's {words} were in memory; resume it from Python and give {name}=...")
        if not path.exists():
            raise CheckpointError(
                f"{path}, the run's {words}, does not exist; if moved, give its new place with "
                f"--{name.replace('_', '-')}, or from Python with {name}=MappedFeatures(...)"
            )
    return stores | open_features(paths, config, {name: kept[name]["skip"] for name in paths})


def check_same_features(found: Mapping[str, Mapping[str, Any]], own: RunFeatures) -> None:
    """Refuses a checkpoint that was trained with other features than a run has.

    Args:
        found: What the checkpoint keeps of its features.
        own: The run's features.

    Raises:
        CheckpointError: If the two differ.
    """
    for name, words in _WORDS.items():
        if name in own.kept and name not in found:
            raise CheckpointError(f"the checkpoint was trained without {words}; leave them out")
        if name in found and name not in own.kept:
            raise CheckpointError(f"the checkpoint was trained with {words}; give those")
        if name in found and found[name]["digest"] != own.kept[name]["digest"]:
            raise CheckpointError(f"the checkpoint was trained with other {words} than those given; give its own")
