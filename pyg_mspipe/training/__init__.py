"""Training, evaluation and checkpoints."""

from typing import TYPE_CHECKING

from pyg_mspipe._lazy import lazy

if TYPE_CHECKING:
    from pyg_mspipe.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
    from pyg_mspipe.training.config import ConfigError, TrainConfig
    from pyg_mspipe.training.device import pick_device
    from pyg_mspipe.training.events import (
        Advanced,
        BatchTrained,
        EpochDone,
        Event,
        Listener,
        PartBegun,
        RunBegun,
        Saved,
        StagesDone,
    )
    from pyg_mspipe.training.heap import keep_freed_memory
    from pyg_mspipe.training.interrupt import Interrupted
    from pyg_mspipe.training.run import Run, load_run
    from pyg_mspipe.training.run_checkpoint import Progress
    from pyg_mspipe.training.single import SingleExecutor
    from pyg_mspipe.training.trainer import Trainer
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "checkpoint": ["CheckpointError", "load_checkpoint", "save_checkpoint"],
            "config": ["ConfigError", "TrainConfig"],
            "events": [
                "Advanced",
                "BatchTrained",
                "EpochDone",
                "Event",
                "Listener",
                "PartBegun",
                "RunBegun",
                "Saved",
                "StagesDone",
            ],
            "heap": ["keep_freed_memory"],
            "interrupt": ["Interrupted"],
            "device": ["pick_device"],
            "run": ["Run", "load_run"],
            "run_checkpoint": ["Progress"],
            "single": ["SingleExecutor"],
            "trainer": ["Trainer"],
        },
    )

__all__ = [
    "Advanced",
    "BatchTrained",
    "CheckpointError",
    "ConfigError",
    "EpochDone",
    "Event",
    "Interrupted",
    "Listener",
    "PartBegun",
    "Progress",
    "Run",
    "RunBegun",
    "Saved",
    "SingleExecutor",
    "StagesDone",
    "TrainConfig",
    "Trainer",
    "keep_freed_memory",
    "load_checkpoint",
    "load_run",
    "pick_device",
    "save_checkpoint",
]
