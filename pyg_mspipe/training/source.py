"""The stream of a run, as its settings and its checkpoints name it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_mspipe.data.streams import load_fields
from pyg_mspipe.data.temporal_data import temporal_data
from pyg_mspipe.data.validation import Fields
from pyg_mspipe.training.checkpoint import CheckpointError

if TYPE_CHECKING:
    from torch_geometric.data import TemporalData


def open_stream(source: dict[str, Any]) -> TemporalData:
    """Returns the stream of a run.

    Args:
        source: How the run loaded the stream, from its checkpoint.

    Raises:
        CheckpointError: If the checkpoint does not say so, since the run was started from Python.
    """
    return temporal_data(open_fields(source))


def open_fields(source: dict[str, Any]) -> Fields:
    """Returns the fields of the stream of a run, without loading PyG.

    Args:
        source: How the run loaded the stream, from its checkpoint.

    Raises:
        CheckpointError: If the checkpoint does not say so, since the run was started from Python.
    """
    if "name_or_path" not in source:
        raise CheckpointError("the run was not started by mspipe train; use it from Python: load_run(folder, data=...)")
    name = source["name_or_path"]
    # Runs keep paths of files absolute. An absolute path is passed as a Path, so that it is never taken for a name.
    options = {key: value for key, value in source.items() if key != "name_or_path"}
    return load_fields(Path(name) if Path(name).is_absolute() else name, **options)
