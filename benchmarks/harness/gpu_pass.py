"""Training on a GPU as ``Trainer`` does it, some batches at a time, so that several trainings can take turns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count, islice
from statistics import median
from typing import Any

import torch

from benchmarks.harness.workload import Workload
from pyg_mspipe.data import TensorFeatures
from pyg_mspipe.distributed import ParallelPlan
from pyg_mspipe.distributed.executor import Job
from pyg_mspipe.pipeline import BatchRecord
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.training import SingleExecutor, TrainConfig, Trainer


class RecordingExecutor(SingleExecutor):
    """Keeps the records of the pipeline, and node memory on the host where it is told to.

    Args:
        host: Whether node memory is on the host.

    Attributes:
        records: Of all batches whose commit is applied.
    """

    def __init__(self, host: bool) -> None:
        self._host = host
        self.records: list[BatchRecord] = []

    def memory_device(self, plan: ParallelPlan) -> str | None:
        """Returns the device of node memory."""
        return "cpu" if self._host else None

    def prepare(self, job: Job) -> None:
        """Gets ready to train."""
        super().prepare(replace(job, on_record=lambda step, record: self.records.append(record)))


class GpuPass:
    """A training, epoch after epoch, some batches at a time.

    Args:
        work: The stream.
        host: Whether node memory and event features are on the host, as MSPipe has them.
        **settings: Of ``TrainConfig``.

    Attributes:
        losses: Of all batches trained: Float32[], on the device.
        seconds: A batch's, of each turn.
    """

    def __init__(self, work: Workload, *, host: bool, **settings: Any) -> None:
        config = TrainConfig(
            **{"batch_size": work.batch_size, "lr": 1e-4, "device": "cuda", "tensorboard": False, **settings}
        )
        self.executor = RecordingExecutor(host)
        features = TensorFeatures(work.data.msg, pinned=True) if host else None
        self.trainer = Trainer(work.data, config, executor=self.executor, features=features)
        self.events = config.batch_size
        self.losses: list[torch.Tensor] = []
        self.seconds: list[float] = []
        self.steps = self._train()

    def _train(self) -> Iterator[torch.Tensor]:
        self.trainer.objective.train()
        for epoch in count():
            with self.executor.sweep(epoch, 0, 0) as train:
                for step in range(len(self.executor.counts())):
                    yield train(step).detach().clone()

    def turn(self, untimed: int, batches: int) -> None:
        """Trains some batches untimed, then so many more, until the device is done."""
        with self.executor.running():
            self.losses += islice(self.steps, untimed)
            torch.cuda.synchronize()
            start = time.perf_counter()
            self.losses += islice(self.steps, batches)
            torch.cuda.synchronize()
            self.seconds.append((time.perf_counter() - start) / batches)

    @property
    def rate(self) -> float:
        """Events per second; the first turn is not counted."""
        return self.events / median(self.seconds[1:])


def take_turns(passes: Sequence[GpuPass], turns: int, untimed: int, batches: int) -> None:
    """Trains all in turns of some batches; the first turn of each warms up. Each round begins with another.

    Args:
        passes: The trainings.
        turns: How many are timed.
        untimed: Batches at the start of a turn, which were prepared while others had theirs.
        batches: Those of a turn that are timed.
    """
    with ExitStack() as stack:
        for each in passes:
            stack.enter_context(closing(each.steps))  # type: ignore[type-var]
        for turn in range(1 + turns):
            for place in range(len(passes)):
                passes[(turn + place) % len(passes)].turn(untimed, batches)


def rows_of(passes: Sequence[GpuPass], **more: Any) -> list[dict[str, Any]]:
    """Returns a row of figures for each training, beside the first one's.

    Args:
        passes: What has taken turns.
        **more: What else stands in each row.
    """
    base, rows = passes[0], []
    for each in passes:
        config, records = each.trainer.config, each.executor.records
        staleness = Counter(record.staleness for record in records)
        done = [record for record in records if record.finish.keys() >= set(STAGES)]
        rows.append(
            {
                "mode": config.staleness,
                "batch_size": config.batch_size,
                "hops": config.layers,
                "precision": config.precision,
                **more,
                "events_per_second": each.rate,
                "ratio_to_first": median(
                    one / own for one, own in zip(base.seconds[1:], each.seconds[1:], strict=True)
                ),
                "same_losses_as_first": torch.equal(torch.stack(each.losses), torch.stack(base.losses)),
                "last_loss": each.losses[-1].item(),
                "staleness": {str(key): staleness[key] for key in sorted(staleness)},
                "bound_held": all(record.staleness <= record.bound for record in records),
                "stage_ms": {name: 1000 * median(r.duration(name) for r in done) for name in STAGES} if done else {},
                "ms_per_batch": [1000 * seconds for seconds in each.seconds[1:]],
            }
        )
    return rows
