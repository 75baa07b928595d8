"""Writing of files that are either complete or absent, however the writing process ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces ``path`` when the ``with`` block ends without an error.

    The bytes go to a partial file in the same folder, which is synced to the disk and then renamed. Until then, and
    when the block raises, ``path`` is what it was before. A process that is killed meanwhile leaves the partial file
    behind; :func:`remove_partial` removes it. Where ``path`` is a link, what it leads to is replaced, not the link.

    Args:
        path: The file to write, in a folder that exists.

    Raises:
        OSError: If the file cannot be written; the error names ``path`` as it was given.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    refuse_devices(path)
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # it leads to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        # An error with another file's name concerns a file that the block reads; one without a number has a full text.
        if error.errno is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def refuse_devices(path: Path) -> None:
    """Refuses a path that leads to a device, a pipe or a socket, which must not be replaced and may keep one waiting.

    Args:
        path: A file's, which need not exist.

    Raises:
        OSError: If it is one of these; the text names it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(f"{path} is a device, a pipe or a socket; give the name of a regular file")


def remove_partial(folder: Path) -> None:
    """Removes the partial files in a folder that processes killed during a write have left behind."""
    for partial in folder.glob(".*.part"):
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes the renaming of a file in a folder outlast a power failure."""
    if os.name == "nt":  # Windows cannot sync a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
