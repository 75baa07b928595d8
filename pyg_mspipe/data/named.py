"""Published streams by name: the JODIE sets through PyG, the TGB sets through py-tgb."""

from __future__ import annotations

import os
import warnings
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyg_mspipe.data.errors import StreamError
from pyg_mspipe.data.validation import Fields

JODIE_NAMES = ("wikipedia", "reddit", "mooc", "lastfm")
TGB_NAMES = (
    "tgbl-wiki",
    "tgbl-review",
    "tgbl-coin",
    "tgbl-comment",
    "tgbl-flight",
    "tgbl-uci",
    "tgbl-enron",
    "tgbl-lastfm",
    "tgbl-subreddit",
    "tgbn-trade",
    "tgbn-genre",
    "tgbn-reddit",
    "tgbn-token",
)


def read_jodie(name: str, root: Path) -> Fields:
    """Returns the events of one of the JODIE sets (Kumar et al., KDD 2019), not yet checked.

    It is downloaded to `root/JODIE` where it is not there yet. Items come after users, times are whole seconds, `y`
    holds state labels: PyG's processing.

    Raises:
        StreamError: If it cannot be downloaded or its file is damaged.
    """
    from torch_geometric.data import TemporalData
    from torch_geometric.datasets import JODIEDataset  # takes half a second, and few streams need it

    folder = root / "JODIE"
    raw = folder / name / "raw" / f"{name}.csv"
    was_there = raw.exists()
    try:
        with warnings.catch_warnings():
            # PyG makes tensors of pandas' read-only columns, which nothing else uses
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            stream = JODIEDataset(str(folder), name)[0]
    except (OSError, HTTPException) as error:
        if not was_there:
            raw.unlink(missing_ok=True)  # PyG would take a partial download for the whole file
        url = JODIEDataset.url.format(name)
        raise StreamError(
            f"{name} cannot be fetched from {url} ({error}); check the network, or place the file at {raw}"
        ) from error
    except (ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise StreamError(f"{raw} is damaged ({reason}); delete {folder / name} to download it again") from error
    assert isinstance(stream, TemporalData)
    return dict(stream.to_dict())


def read_tgb(name: str, root: Path) -> Fields:
    """Returns the events of one of the sets of TGB (Huang et al., NeurIPS 2023), downloaded to `root` if need be.

    TGB marks every event with the label 1, which says nothing and is left out. Not yet checked.

    Raises:
        StreamError: If py-tgb is not installed, or the set cannot be downloaded.
    """
    events = _tgb_set(name, root).full_data
    features = events["edge_feat"]
    names = {"src": "sources", "dst": "destinations", "t": "timestamps"}
    fields = {field: torch.from_numpy(events[name]) for field, name in names.items()}
    return fields if features is None else fields | {"msg": torch.tensor(features, dtype=torch.float32)}


def read_tgb_labels(name: str, root: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the labels of one of TGB's `tgbn-*` sets: nodes, Int64[L], times, Int64[L], and numbers, Float64[L, C].

    Raises:
        StreamError: If py-tgb is not installed, or the set cannot be downloaded.
    """
    labels = _tgb_set(name, root).full_data["node_label_dict"]
    rows = [(node, t, y) for t, of_nodes in labels.items() for node, y in of_nodes.items()]
    node, t, y = zip(*rows, strict=True)
    return torch.tensor(node).long(), torch.tensor(t).long(), torch.from_numpy(np.stack(y))


def read_tgb_negatives(
    name: str, root: Path, part: Literal["val", "test"]
) -> dict[tuple[int, int, int], npt.NDArray[Any]]:
    """Returns the negatives of one of TGB's `tgbl-*` sets: destinations, [k], by source, destination and time.

    Args:
        name: The set's name.
        root: The folder that it is downloaded to.
        part: Which events' negatives.

    Raises:
        StreamError: If py-tgb is not installed, the set cannot be downloaded, or its file of negatives cannot be read.
    """
    found = _tgb_set(name, root)
    path, folder = Path(found.meta_dict[f"{part}_ns"]).resolve(), root / name.replace("-", "_")
    try:
        (found.load_val_ns if part == "val" else found.load_test_ns)()
    # A damaged pickle may raise any error.
    except Exception as error:
        what = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise StreamError(
            f"TGB's {part} negatives of {name}: {path} {what}; delete {folder} to download the set again, or unpack "
            f"its archive, which holds them, to that folder"
        ) from error
    lists: dict[tuple[int, int, int], npt.NDArray[Any]] = found.negative_sampler.eval_set[part]
    return lists


def _tgb_set(name: str, root: Path) -> Any:
    """Returns a set as py-tgb has it."""
    try:
        if name.startswith("tgbn-"):
            from tgb.nodeproppred.dataset import NodePropPredDataset as Dataset
        else:
            from tgb.linkproppred.dataset import LinkPropPredDataset as Dataset
        from tgb.utils.info import PROJ_DIR
    except ModuleNotFoundError as error:
        raise StreamError(f"{name} needs {error.name}; pip install 'pyg_mspipe[tgb]'") from error
    # py-tgb puts its own folder before every root, so the root must lead out of that folder again
    inside_root = os.path.relpath(root.resolve(), Path(PROJ_DIR).resolve())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of files that py-tgb leaves open
            return Dataset(name, root=inside_root)
    except (OSError, zipfile.BadZipFile) as error:
        folder = root / name.replace("-", "_")
        raise StreamError(
            f"{name} cannot be fetched ({error}); check the network, or unpack the set's archive to {folder}"
        ) from error
