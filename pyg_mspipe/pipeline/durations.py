"""How long the stages take: estimates, the best rate that durations allow, and the staleness that it needs."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal, get_args

Measured = Literal["sample", "gather", "fetch", "train", "rows", "update"]

WINDOW = 32
"""From how many of a stage's last durations its estimate is made."""

WARM_UP = 5
"""How many durations of every stage there must be before there are estimates."""

MOST_STALE = 2
"""The most staleness that can pay if durations are constant: each of the loop's three parts takes at most a period."""

# One more missed commit pays if it wins more than this share of the rate.
_PAYS = 0.01
# How many missed commits past the cap may pay because durations vary.
_FOR_JITTER = 2

# A normal distribution without its lowest and highest tenth has 0.66 of its standard deviation.
_TRIMMED = 0.66
# Sums of seconds are rounded: a loop of just two periods must not seem to take a little more than two.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Durations:
    """How long each stage works on a batch, in seconds.

    Attributes:
        sample: Stage 1.
        gather: Stage 2.
        fetch: Stage 3.
        train: Stage 4.
        update: Stage 5.
        rows: The time from the start of training until the batch's new memory rows exist; at most ``train``.
    """

    sample: float
    gather: float
    fetch: float
    train: float
    update: float
    rows: float

    @property
    def period(self) -> float:
        """Returns ``Lambda``, the time from batch to batch that the slowest resource allows.

        Gather and fetch share one resource, the copy path.
        """
        return max(self.sample, self.gather + self.fetch, self.train, self.update)

    @property
    def loop(self) -> float:
        """Returns how long the memory loop takes: fetch, the new rows, their commit."""
        return self.fetch + self.rows + self.update

    @property
    def staleness_cap(self) -> int:
        """Returns ``k*``, the least staleness with which the memory loop costs no rate.

        With a bound of ``k`` the loop spans ``k + 1`` periods: the maximum cycle ratio of the stage graph.
        If durations do not vary, more staleness never pays.
        """
        if self.period <= 0:
            return 0
        return max(0, math.ceil(self.loop / self.period * (1 - _ROUNDING)) - 1)


def paying_staleness(mean: Durations, spread: Durations) -> int:
    """Returns the least staleness that costs at most 1 % of the rate which any more could reach.

    If durations do not vary this is ``k*`` of ``mean``, or less where the last of its commits win less than 1 %: a
    bound of ``k`` allows ``k + 1`` batches per loop. If durations vary, the loop sometimes overruns its ``k + 1``
    periods although it fits into them on average, and up to two more commits may pay. The cost of overruns follows from
    the slack ``b = (k + 1) Lambda - loop``. The lead of one stage over another is taken for a Brownian motion between
    barriers at 0 and ``b``, with drift ``d``, the difference of their mean durations, and variance ``v``, the sum of
    their variances. In each period the slower stage then idles for

        d / (exp(2 d b / v) - 1),    or v / (2 b) where d is 0

    seconds (J. M. Harrison, Brownian Motion and Stochastic Flow Systems, 1985).

    Args:
        mean: The stages' mean durations.
        spread: The standard deviations of the durations.
    """
    most = mean.staleness_cap + _FOR_JITTER
    return next((bound for bound in range(most) if _lost(mean, spread, bound) <= _PAYS), most)


def _lost(mean: Durations, spread: Durations, bound: int) -> float:
    """Returns the share of the rate that a bound costs."""
    if mean.period <= 0:
        return 0.0
    slack = (bound + 1) * mean.period - mean.loop
    resources = {
        "sample": (mean.sample, spread.sample**2),
        "copy": (mean.gather + mean.fetch, spread.gather**2 + spread.fetch**2),
        "train": (mean.train, spread.train**2),
        "update": (mean.update, spread.update**2),
    }
    time, variance = resources.pop(max(resources, key=lambda name: resources[name]))
    idle = max(_idle(time - other, slack, variance + var) for other, var in resources.values())
    # With next to no slack a period is the larger of loop and stage; 0.4 is the mean of a normal's positive part.
    variance += spread.fetch**2 + spread.rows**2 + spread.update**2
    overrun = min(idle, 0.4 * math.sqrt(variance))
    return max(0.0, -slack) / mean.loop + overrun / mean.period if mean.loop > 0 else 0.0


def _idle(drift: float, slack: float, variance: float) -> float:
    if variance <= 0:
        return 0.0
    if slack <= 0:
        return math.inf
    steps = 2 * drift * slack / variance
    if steps < 1e-6:
        return variance / (2 * slack)
    return drift / math.expm1(steps) if steps < 50 else 0.0


class RunningDurations:
    """Running estimates of how long the stages take, from the durations that were measured.

    A stage's estimate is the trimmed mean of its last 32 durations: the lowest and the highest tenth, at least one
    each, are left out. So a batch that took 50 times as long (the first one, or one beside a checkpoint or under page
    faults) does not count at all, while the estimate follows a lasting change batch by batch, wholly after 32. An
    observation costs a search and an insertion among 32 numbers; an estimate is computed when it is asked for.
    """

    def __init__(self) -> None:
        self._seen: dict[Measured, _Window] = {stage: _Window() for stage in get_args(Measured)}
        self._estimate: tuple[Durations, Durations] | None = None

    def observe(self, stage: Measured, seconds: float) -> None:
        """Adds how long a stage worked on a batch; ``rows`` counts from the start of training.

        Raises:
            ValueError: If the duration is negative or not a number.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"stage {stage} took {seconds} s; give the seconds between two readings of one clock")
        self._seen[stage].add(seconds)
        self._estimate = None

    def current(self) -> Durations | None:
        """Returns the estimates; None during warm-up, until each stage was observed 5 times."""
        estimate = self._both()
        return None if estimate is None else estimate[0]

    def spread(self) -> Durations | None:
        """Returns the standard deviations, estimated from the same durations; None during warm-up."""
        estimate = self._both()
        return None if estimate is None else estimate[1]

    def _both(self) -> tuple[Durations, Durations] | None:
        if self._estimate is None and all(len(window) >= WARM_UP for window in self._seen.values()):
            each = {stage: window.mean_and_deviation() for stage, window in self._seen.items()}
            mean, deviation = (Durations(**{stage: both[k] for stage, both in each.items()}) for k in (0, 1))
            self._estimate = replace(mean, rows=min(mean.rows, mean.train)), deviation
        return self._estimate


class _Window:
    """The last durations of one stage, both in the order in which they came and sorted."""

    def __init__(self) -> None:
        self._last: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._last)

    def add(self, seconds: float) -> None:
        if len(self._last) == WINDOW:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]
        self._last.append(seconds)
        insort(self._sorted, seconds)

    def mean_and_deviation(self) -> tuple[float, float]:
        left_out = max(1, len(self._sorted) // 10)
        kept = self._sorted[left_out:-left_out]
        # Computed relative to the shortest, so that equal durations give exactly their value and no deviation.
        above = [seconds - kept[0] for seconds in kept]
        mean = sum(above) / len(above)
        variance = sum((each - mean) ** 2 for each in above) / len(above)
        return kept[0] + mean, math.sqrt(variance) / _TRIMMED
