"""Files that commands write, checked before anything takes time."""

from __future__ import annotations

import os
from pathlib import Path

from pyg_mspipe.data.atomic_write import refuse_devices
from pyg_mspipe.training.config import ConfigError


def check_file(flag: str, path: Path) -> None:
    """Refuses a file that cannot be written.

    Args:
        flag: The flag that names it.
        path: The file.

    Raises:
        ConfigError: If it is a folder, or its own folder does not exist or is not writable.
        OSError: If it is a device, a pipe or a socket.
    """
    refuse_devices(path)
    if path.is_dir():
        raise ConfigError(f"{flag} {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: the folder {path.parent} does not exist; make it or give another file")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{flag} {path}: the folder {path.parent} is not writable; give another file")
