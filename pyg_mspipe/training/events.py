"""The events that a trainer tells its listeners: the progress bar, the metrics file, the timeline, and your own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyg_mspipe.pipeline import BatchRecord
from pyg_mspipe.training.config import TrainConfig

if TYPE_CHECKING:
    from pyg_mspipe.tasks import Metrics


@dataclass(frozen=True)
class RunBegun:
    """A run began; a run that resumes does not tell this.

    Attributes:
        config: The run's settings.
        source: How the run's stream was loaded.
        stream: Fingerprint of the stream.
    """

    config: TrainConfig
    source: dict[str, Any]
    stream: str


@dataclass(frozen=True)
class PartBegun:
    """A pass over some events of the stream began.

    Attributes:
        part: What the pass does.
        epoch: The epoch's number, from 0.
        total: How many events the pass has.
        done: How many events of the pass were done before, where a run resumes.
    """

    part: Literal["train", "validate", "static memory"]
    epoch: int
    total: int
    done: int = 0


@dataclass(frozen=True)
class Advanced:
    """More events of a pass are done.

    Attributes:
        events: How many events were done since the last such event.
        loss: The mean loss of the pass so far; None in validation.
    """

    events: int
    loss: float | None = None


@dataclass(frozen=True)
class BatchTrained:
    """The loss of a step is known.

    Attributes:
        step: The step's number in the run, from 0.
        epoch: The epoch's number, from 0.
        batch: The step's number in the epoch, from 0.
        loss: The step's loss over all trainers.
    """

    step: int
    epoch: int
    batch: int
    loss: float


@dataclass(frozen=True)
class StagesDone:
    """The pipeline is done with a batch.

    Attributes:
        step: The step of the run in which the batch was first trained.
        batch: The number of that step in its sweep.
        record: When each stage worked on the batch, and which version it read.
    """

    step: int
    batch: int
    record: BatchRecord


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained and validated.

    Attributes:
        step: The number of the epoch's last step in the run.
        epoch: The epoch's number, from 0.
        trained: How many items were trained since the last validation.
        loss: The mean loss of these items.
        rate: Items trained per second; 0 if the run was interrupted after they were trained.
        best: Whether this is the best epoch so far.
        metrics: The metrics on the validation events.
        settings: The settings that the metrics depend on.
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
        path: The checkpoint's file.
    """

    path: Path


Event = RunBegun | PartBegun | Advanced | BatchTrained | StagesDone | EpochDone | Saved
"""Any event that a trainer tells."""

Listener = Callable[[Event], None]
"""Called with each event in the thread that trains, which waits until the call returns."""
