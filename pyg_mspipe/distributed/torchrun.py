"""What torchrun tells the processes that it starts."""

from __future__ import annotations

import os


def torchrun_started() -> bool:
    """Returns whether torchrun has started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def torchrun_may_restart() -> bool:
    """Returns whether torchrun would restart the run after a failure."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0
