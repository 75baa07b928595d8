"""The folder of a run: which files are the run's, and that one process at a time writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyg_mspipe.data.atomic_write import remove_partial
from pyg_mspipe.training.config import ConfigError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LAST, BEST = "last.pt", "best.pt"
METRICS, EVALUATION = "metrics.jsonl", "evaluation.json"
STATIC = "static.pt"


def has_run(folder: Path) -> bool:
    """Returns whether a folder has checkpoints."""
    return any((folder / name).exists() for name in (LAST, BEST))


@contextmanager
def own_folder(folder: Path, *, fresh: bool, replace: bool) -> Iterator[None]:
    """Makes a folder, where it is missing, and this process the only one that writes a run in it for the time being.

    Args:
        folder: Of the run.
        fresh: Whether a run begins, rather than goes on.
        replace: Whether a run that is there may be removed then; nothing else that the folder holds is.

    Raises:
        ConfigError: If another process is training in it, or a run is there that may not be removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if fresh and has_run(folder) and not replace:
            raise ConfigError(f"{folder} has a run already; resume it, give another folder, or pass replace=True")
        remove_partial(folder)
        if fresh and replace:
            _clear(folder)
        yield


def _clear(folder: Path) -> None:
    for name in (LAST, BEST, METRICS, EVALUATION, STATIC):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("last.*.rank*.pt"):
        path.unlink()
    for path in (folder / "tensorboard").glob("events.out.tfevents.*"):
        path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a lock on the folder itself, which goes with the process."""
    if fcntl is None:
        yield
        return
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: another process is training in this folder; wait for it or stop it") from error
    finally:
        os.close(directory)
