"""Variants of one job, measured against each other in interleaved rounds."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean, median
from typing import Protocol

import torch

from benchmarks.harness.stages import Stage, StageTimer, untimed
from benchmarks.harness.workload import Workload

WARM_UP_BATCHES = 10
BLOCK_BATCHES = 20


@dataclass(frozen=True)
class Scores:
    """How well a trained model tells events from negatives: means over the batches of the validation events."""

    ap: float
    auc: float


class Trainee(Protocol):
    """A model in training."""

    def train(self, epoch: int, stage: Stage = untimed) -> Iterator[float]:
        """Trains one pass over ``workload.train`` from an empty memory, and yields the loss of each batch."""
        ...

    def evaluate(self) -> Scores:
        """Scores ``workload.val``, going on from the memory that the last pass left behind."""
        ...


@dataclass(frozen=True)
class Variant:
    """One way to do the job.

    Attributes:
        name: As it stands in tables.
        start: From workload and seed, a model with fresh weights. It is called in another process too, so it is a
            function at module level, or a ``functools.partial`` of one.
    """

    name: str
    start: Callable[[Workload, int], Trainee]


@dataclass(frozen=True)
class Profile:
    """What one pass in a process of its own costs.

    Attributes:
        stage_ms: Milliseconds per batch of each stage.
        peak_rss: The largest resident set of the process, in bytes, with Python, torch and the stream in it.
    """

    stage_ms: dict[str, float]
    peak_rss: int


@dataclass
class Measurement:
    """What was measured of a variant.

    Attributes:
        name: The variant's.
        events_per_second: Of each round.
        block_seconds: Of each block of batches in all rounds.
        losses: The mean loss of each round; rounds are the epochs of one training.
        scores: After each round.
        profile: Of another pass, with fresh weights, whose throughput does not count.
    """

    name: str
    events_per_second: list[float] = field(default_factory=list)
    block_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    profile: Profile | None = None

    @property
    def median(self) -> float:
        """The median rate over the rounds, in events per second."""
        return median(self.events_per_second)

    @property
    def spread(self) -> float:
        """The fastest round's rate less the slowest's, as a fraction of the median."""
        return (max(self.events_per_second) - min(self.events_per_second)) / self.median

    def ratio_to(self, baseline: Measurement) -> float:
        """Returns how many times as fast as the baseline it is: the median over blocks of the ratio within a block."""
        return median(base / own for own, base in zip(self.block_seconds, baseline.block_seconds, strict=True))


def interleave(
    variants: Sequence[Variant], workload: Workload, *, rounds: int, seed: int, log: Callable[[str], None]
) -> list[Measurement]:
    """Trains every variant for ``rounds`` epochs, a block of batches each in turn, and evaluates it after each.

    A block takes less than a second, so that what else the machine does in the meantime meets all variants alike. Each
    block starts with another variant, so that none profits from its place.

    Args:
        variants: The baseline first.
        workload: What to train on.
        rounds: Epochs.
        seed: Of the initial weights and of dropout.
        log: Takes a line of progress after each pass; during a pass nothing else runs.
    """
    trainees, measurements = [], []
    for variant in variants:
        for _ in islice(variant.start(workload, seed).train(0), WARM_UP_BATCHES):
            pass
        trainees.append(variant.start(workload, seed))
        measurements.append(Measurement(variant.name))

    for epoch in range(rounds):
        gc.collect()
        for measurement, (seconds, losses) in zip(measurements, _epoch(trainees, workload, epoch, seed), strict=True):
            rate = len(workload.train) / sum(seconds)
            measurement.block_seconds += seconds
            measurement.events_per_second.append(rate)
            measurement.losses.append(fmean(losses))
            log(f"round {epoch + 1}/{rounds}  {measurement.name}: {rate:,.0f} events/s, loss {fmean(losses):.4f}")
        for trainee, measurement in zip(trainees, measurements, strict=True):
            scores = trainee.evaluate()
            measurement.scores.append(scores)
            log(f"validation  {measurement.name}: AP {scores.ap:.4f}, AUC {scores.auc:.4f}")
    return measurements


def _epoch(
    trainees: Sequence[Trainee], workload: Workload, epoch: int, seed: int
) -> list[tuple[list[float], list[float]]]:
    """Trains all for an epoch, and returns for each the seconds of its blocks and the losses of its batches."""
    passes = [trainee.train(epoch) for trainee in trainees]
    torch.manual_seed(seed + epoch)
    random = [torch.get_rng_state()] * len(passes)
    results: list[tuple[list[float], list[float]]] = [([], []) for _ in passes]
    for block in range(-(-len(workload.batches(workload.train)) // BLOCK_BATCHES)):
        for turn in range(len(passes)):
            at = (block + turn) % len(passes)
            torch.set_rng_state(random[at])
            start = time.perf_counter()
            losses = list(islice(passes[at], BLOCK_BATCHES))
            results[at][0].append(time.perf_counter() - start)
            results[at][1].extend(losses)
            random[at] = torch.get_rng_state()
    return results


def profile(variant: Variant, load: Callable[[], Workload], *, seed: int, threads: int) -> Profile:
    """Returns the stages and the peak memory of one pass, taken in a new process.

    Args:
        variant: What to run.
        load: Gives the workload; a function at module level or a ``functools.partial`` of one.
        seed: Of the initial weights and of dropout.
        threads: torch's.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_profile, variant, load, seed, threads).result()


def _profile(variant: Variant, load: Callable[[], Workload], seed: int, threads: int) -> Profile:
    torch.set_num_threads(threads)
    workload = load()
    timer = StageTimer()
    batches = sum(1 for _ in variant.start(workload, seed).train(0, timer))
    unit = 1 if sys.platform == "darwin" else 1024
    return Profile(
        stage_ms={name: 1000 * seconds / batches for name, seconds in timer.seconds.items()},
        peak_rss=unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )
