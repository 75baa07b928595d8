"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is; all of it is in a checkpoint.

    Attributes:
        epoch: The epoch that is going on, from 0.
        batch: Its next batch, from 0.
        loss_sum: Sum of the epoch's losses, each times its number of events.
        step: Training steps done in all epochs.
        best_ap: Best validation AP so far.
        best_epoch: Where that was; -1 before the first validation.
        stopped: Whether early stopping ended the run.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    step: int = 0
    best_ap: float = float("-inf")
    best_epoch: int = -1
    stopped: bool = False
