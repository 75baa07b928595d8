"""Metrics as JSON lines, and as TensorBoard files where that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pyg_mspipe.data.atomic_write import refuse_devices
from pyg_mspipe.training.events import BatchTrained, EpochDone, Event, RunBegun, StagesDone
from pyg_mspipe.training.run_folder import METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Listens to a trainer and appends one JSON object a line to ``metrics.jsonl``.

    A checkpoint keeps the log's length. A run that resumes cuts off what was written after the checkpoint and writes it
    again, so that the file has each batch once.

    Args:
        folder: The run's folder; without one nothing is written.
        length: Bytes to keep of an existing log.
        tensorboard: Whether to write TensorBoard files too, where it is installed.
        step: The training step with which the log continues.
    """

    def __init__(self, folder: Path | None, *, length: int = 0, tensorboard: bool = False, step: int = 0) -> None:
        self._file: BinaryIO | None = None
        self._writer: SummaryWriter | None = None
        if folder is None:
            return
        refuse_devices(folder / METRICS)
        self._file = (folder / METRICS).open("ab")
        self._file.truncate(min(length, self._file.tell()))
        self._file.seek(0, os.SEEK_END)
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def __call__(self, event: Event) -> None:
        """Writes the line of an event, if it has one."""
        match event:
            case RunBegun():
                self.write("run", 0, config=asdict(event.config), source=event.source, stream=event.stream)
            case BatchTrained():
                self.write("batch", event.step, epoch=event.epoch, batch=event.batch, loss=event.loss)
            case StagesDone(record=record):
                values = {"bound": record.bound, "staleness": record.staleness, "fetched": record.fetched}
                times = {"work_ms": record.work_ms(), "wait_ms": record.wait_ms()}
                self.write("stages", event.step, batch=event.batch, **values, **times)
            case EpochDone():
                values = {name: getattr(event, name) for name in ("epoch", "trained", "loss", "rate", "best")}
                self.write("epoch", event.step, **values, **asdict(event.metrics), **event.settings)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Appends ``{"kind": kind, "step": step, **values}``."""
        if self._file is None:
            return
        self._file.write(json.dumps({"kind": kind, "step": step, **values}).encode() + b"\n")
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> int:
        """Writes everything to disk and returns the log's length in bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._writer is not None:
            self._writer.flush()
        return self._file.tell()

    def __enter__(self) -> MetricsLog:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()
