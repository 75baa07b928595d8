"""Whether a batch trained in parts, each seeing the commits of those before it, wins back what large batches lose.

A batch of ``B`` events is split by time into ``R`` parts. Memory and neighbours of a part are those of the events
before the part; the parts' gradients are added up to one step of the optimizer. Beside it stand plain batches of
``B / R``, which see as much and take ``R`` steps. Rates are by the processor time of one thread, so that a busy machine
does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from rich.table import Table
from torch import Tensor

from benchmarks.harness.benchmark import Benchmark, Result, Run
from benchmarks.harness.training_clock import TrainingClock
from benchmarks.harness.workload import load_workload
from pyg_mspipe import TrainConfig, Trainer
from pyg_mspipe.distributed.executor import TrainStep
from pyg_mspipe.pipeline import Batch
from pyg_mspipe.tasks import LinkMetrics, train_step
from pyg_mspipe.training import SingleExecutor


@dataclass(frozen=True)
class Settings:
    """Of this benchmark.

    Attributes:
        stream: A stream by name.
        batch_sizes: Events of a step.
        parts: How many parts a step has.
        epochs: Passes over the training events.
        negatives: Negatives that each event of the test is ranked among, drawn at random.
        seed: Of weights and negatives.
        threads: Of torch; with more than one the rates are none.
    """

    stream: str = "wikipedia"
    batch_sizes: tuple[int, ...] = (600, 2000, 6000)
    parts: tuple[int, ...] = (1, 2, 4, 8)
    epochs: int = 5
    negatives: int = 100
    seed: int = 0
    threads: int = 1


class InParts(SingleExecutor):
    """Steps the optimizer once for several batches of the pipeline, which are the parts of a larger one.

    Args:
        parts: How many.
    """

    def __init__(self, parts: int) -> None:
        self._parts = parts

    @contextmanager
    def sweep(self, epoch: int, first: int, step: int) -> Iterator[TrainStep]:
        """Gives the function to call for each part of an epoch, in order."""
        objective, optimizer, source = self._job.objective, self._job.optimizer, self._job.train
        objective.model.state.clear(source.events.start)
        engine = self._pipelines.engine(source, epoch=epoch, first=first)

        def commit(batch: Batch) -> None:
            engine.commit(objective.model.commit(batch))

        with self._pipelines.flights(engine) as flights:

            def train(index: int) -> Tensor:
                flight = next(flights)
                assert flight.batch is not None
                begin = index - index % self._parts
                whole = range(begin, min(begin + self._parts, len(source)))
                size = sum(len(source.events_of(part)) for part in whole)
                if index == begin:
                    optimizer.zero_grad()
                share = len(flight.batch.events) / size
                loss = train_step(objective, flight.batch.with_rows(flight.rows), commit=commit, weight=share)
                if index == whole[-1]:
                    optimizer.step()
                return loss / share

            yield train


def measure(settings: Settings, run: Run) -> Result:
    """Trains every size in every number of parts, and plain batches of each part's size."""
    workload = load_workload(settings.stream, 200, seed=settings.seed, quick=run.quick)
    rows = []
    for batch_size in settings.batch_sizes:
        for parts in settings.parts:
            ways = {"parts": InParts(parts), "plain": SingleExecutor()} if parts > 1 else {"plain": SingleExecutor()}
            for way, executor in ways.items():
                config = TrainConfig(
                    epochs=settings.epochs,
                    batch_size=max(batch_size // parts, 1),
                    eval_negatives=settings.negatives,
                    seed=settings.seed,
                    threads=settings.threads,
                    patience=0,
                    tensorboard=False,
                )
                clock = TrainingClock()
                trainer = Trainer(workload.data, config, executor=executor, listeners=[clock])
                trainer.fit()
                rates = [len(trainer.split.train) / seconds for seconds in clock.seconds]
                # The last validation has left the memory at its end.
                metrics = trainer.evaluate("test")
                assert isinstance(metrics, LinkMetrics)
                row = {"batch_size": batch_size, "parts": parts, "way": way, "mrr": metrics.mrr, "ap": metrics.ap}
                rows.append(row | {"rates": rates})
                text = f"batch {batch_size}, {parts} parts, {way}: MRR {metrics.mrr:.4f}, {median(rates):,.0f} events/s"
                run.console.print(text)
    table = Table("batch", "parts", "one step for all", "a step for each", title=f"{workload.name}: test MRR")
    by_key = {(row["batch_size"], row["parts"], row["way"]): row for row in rows}
    for batch_size in settings.batch_sizes:
        for parts in settings.parts:
            both = [by_key.get((batch_size, parts, way)) for way in ("parts", "plain")]
            table.add_row(str(batch_size), str(parts), *("-" if row is None else f"{row['mrr']:.4f}" for row in both))
    run.console.print(table)
    return {"stream": workload.name, "rows": rows}


BENCHMARK = Benchmark(
    name="refine",
    about="test MRR of large batches, trained in parts that see the commits of those before them",
    minutes=20,
    measure=measure,
    settings=Settings(),
    quick=Settings(batch_sizes=(200,), parts=(1, 2), epochs=1, negatives=5, threads=1),
)
