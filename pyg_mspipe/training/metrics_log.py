"""Metrics as JSON lines, and as TensorBoard files where that is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pyg_mspipe.data.atomic_write import refuse_devices
from pyg_mspipe.training.checkpoint import CheckpointError
from pyg_mspipe.training.events import BatchTrained, EpochDone, Event, RunBegun, StagesDone
from pyg_mspipe.training.run_folder import METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_BLOCK = 1 << 20


@dataclass(frozen=True)
class LogMark:
    """A place in a run's metrics file, and what stands before it.

    Attributes:
        length: Bytes before it.
        digest: Their digest; empty if there are none.
    """

    length: int = 0
    digest: str = ""


class MetricsLog:
    """Listens to a trainer and appends one JSON object a line to ``metrics.jsonl``.

    A checkpoint keeps the log's end. A run that resumes cuts off what was written after the checkpoint and writes it
    again, so that the file has each batch once. A file that was removed is begun anew.

    Args:
        folder: The run's folder; without one nothing is written.
        kept: What to keep of an existing log.
        tensorboard: Whether to write TensorBoard files too, where it is installed.
        step: The training step with which the log continues.

    Raises:
        CheckpointError: If what is to be kept is cut off or has changed; the file is then left as it is.
    """

    def __init__(
        self, folder: Path | None, *, kept: LogMark | None = None, tensorboard: bool = False, step: int = 0
    ) -> None:
        self._file: BinaryIO | None = None
        self._writer: SummaryWriter | None = None
        self._digest = hashlib.blake2b(digest_size=16)
        if folder is None:
            return
        path, kept = folder / METRICS, kept or LogMark()
        refuse_devices(path)
        if path.exists() and kept.length:
            self._take_over(path, kept)
        self._file = path.open("ab")
        self._file.truncate(min(kept.length, self._file.tell()))
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
        line = json.dumps({"kind": kind, "step": step, **values}).encode() + b"\n"
        self._file.write(line)
        self._digest.update(line)
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> LogMark:
        """Writes everything to disk and returns the log's end."""
        if self._file is None:
            return LogMark()
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._writer is not None:
            self._writer.flush()
        return LogMark(self._file.tell(), self._digest.hexdigest())

    def _take_over(self, path: Path, kept: LogMark) -> None:
        """Reads what is to be kept of a log, and refuses another."""
        left = kept.length
        with path.open("rb") as file:
            while block := file.read(min(left, _BLOCK)):
                self._digest.update(block)
                left -= len(block)
        if left or self._digest.hexdigest() != kept.digest:
            raise CheckpointError(
                f"{path}: cut off or changed since the checkpoint was written; put it back as it was, or remove it to "
                f"go on without its lines"
            )

    def __enter__(self) -> MetricsLog:
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()
