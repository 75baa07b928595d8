"""What a trainer tells those who listen: the progress bar, the metrics file, the timeline, and whoever else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyg_mspipe.pipeline import BatchRecord
from pyg_mspipe.tasks import Metrics
from pyg_mspipe.training.config import TrainConfig


@dataclass(frozen=True)
class RunBegun:
    """A run began; not when it goes on.

    Attributes:
        config: Its settings.
        source: How its stream was loaded.
        stream: Fingerprint of the stream.
    """

    config: TrainConfig
    source: dict[str, Any]
    stream: str


@dataclass(frozen=True)
class PartBegun:
    """A pass over some events began.

    Attributes:
        part: What is done to them.
        epoch: Its number, from 0.
        total: How many there are.
        done: To how many it is done already.
    """

    part: Literal["train", "validate", "static memory"]
    epoch: int
    total: int
    done: int = 0


@dataclass(frozen=True)
class Advanced:
    """Something was done to more events of a pass.

    Attributes:
        events: To how many more.
        loss: The mean loss of the pass so far; none in validation.
    """

    events: int
    loss: float | None = None


@dataclass(frozen=True)
class BatchTrained:
    """The loss of a step is known.

    Attributes:
        step: Its number in the run, from 0.
        epoch: The epoch that is going on.
        batch: The number of the step in that.
        loss: Of all trainers.
    """

    step: int
    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True)
class StagesDone:
    """The pipeline is done with a batch.

    Attributes:
        step: The number of the step in which the batch was trained first.
        batch: The number of that step in the sweep.
        record: Of the batch.
    """

    step: int
    batch: int
    record: BatchRecord


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and validated.

    Attributes:
        step: The number of its last step.
        epoch: Its number.
        trained: How many items were trained since the last validation.
        loss: Their mean loss.
        rate: How many of them in a second; 0 if they were trained before.
        best: Whether it is the best epoch so far.
        metrics: On the validation events.
        settings: What the metrics depend on.
    """

    step: int
    epoch: int
    trained: int
    loss: float
    rate: float
    best: bool
    metrics: Metrics
    settings: dict[str, str]


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written, by all processes.

    Attributes:
        path: Of the checkpoint.
    """

    path: Path


Event = RunBegun | PartBegun | Advanced | BatchTrained | StagesDone | EpochDone | Saved
"""Whatever a trainer tells."""

Listener = Callable[[Event], None]
"""Is told each event, in the thread that trains; training goes on when it returns."""
