"""Training, evaluation and checkpoints."""

from pyg_mspipe.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pyg_mspipe.training.config import ConfigError, TrainConfig
from pyg_mspipe.training.device import pick_device
from pyg_mspipe.training.distributed_trainer import DistributedTrainer
from pyg_mspipe.training.emulated_trainer import EmulatedTrainer
from pyg_mspipe.training.heap import keep_freed_memory
from pyg_mspipe.training.interrupt import Interrupted
from pyg_mspipe.training.run_progress import Progress
from pyg_mspipe.training.trainer import Trainer

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DistributedTrainer",
    "EmulatedTrainer",
    "Interrupted",
    "Progress",
    "TrainConfig",
    "Trainer",
    "keep_freed_memory",
    "load_checkpoint",
    "pick_device",
    "save_checkpoint",
]
