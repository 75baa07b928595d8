"""The folder of a run: the names of its files, and a lock that lets only one process at a time write them."""

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
    """Makes a folder if it is missing, and lets only this process write a run in it during the ``with`` block.

    Args:
        folder: The run's folder.
        fresh: Whether a new run begins, rather than an old one resumes.
        replace: Whether a new run may remove the folder's old run; other files are never removed.

    Raises:
        ConfigError: If another process is training in the folder, or it has a run that may not be removed.
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
    """Holds a lock on the folder itself, which the system releases when the process ends."""
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
