"""How stale a batch's memory may be and when it is fetched: the rules of MSPipe, without threads or tensors.

The times are those of the architecture's clock: ``b_j(i)`` and ``f_j(i)`` are start and finish of stage ``j`` for batch
``i``, ``u(i)`` is when its new rows exist. Minimal staleness is that of MSPipe (KDD 2024, arXiv 2402.15113), decided
for each batch instead of once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from pyg_mspipe.pipeline.durations import MOST_STALE, Durations, RunningDurations, paying_staleness

Mode = Literal["sequential", "exact", "minimal"]
Staleness: TypeAlias = Mode | int
"""``"sequential"``, ``"exact"``, ``"minimal"``, or a fixed bound: how many commits a batch may always miss."""

# By how many standard deviations a commit may be late, or training end early, without costing the trainer time.
_RESERVE = 2.5
_ROUNDING = 1e-9


def parse_staleness(text: str | int) -> Staleness:
    """Returns a mode or a fixed bound from its text, e.g. ``"minimal"`` or ``"3"``.

    Args:
        text: A mode, or a whole number from 0 as a text or a number.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(text, str):
        if text in get_args(Mode):
            return cast(Mode, text)
        if text.isdecimal() and text.isascii():
            return int(text)
    elif type(text) is int and text >= 0:
        return text
    raise ValueError(f"staleness is {text!r}; choose {', '.join(get_args(Mode))} or a whole number from 0")


@dataclass(frozen=True)
class PipelineState:
    """The state of the pipeline at the moment when a batch has been gathered. Times are seconds on one clock.

    Attributes:
        now: That moment, ``f_2(i)``. All batches before have been fetched, since the copy path works in order.
        training: The batch in training, or the next to be trained; all batches before it are trained.
        train_begin: When the training of that batch began; None if it has not begun.
        rows_at: When the new rows of that batch existed; None if they do not exist yet.
        version: How many commits were applied: ``0..version - 1``.
        update_begin: When the update stage began to apply commit ``version``; None if it has not begun.
    """

    now: float
    training: int
    train_begin: float | None
    rows_at: float | None
    version: int
    update_begin: float | None


@dataclass(frozen=True)
class Decision:
    """How many commits a batch may miss, and when it fetches its memory.

    The batch may fetch as soon as ``version >= wait_for`` and one of these holds: the time is ``fetch_at``; ``version``
    is ``expect`` or more, so that the commits that the fetch waited for are there; the trainer is idle and waits for
    this batch.

    Attributes:
        batch: The batch, ``i``.
        bound: How many commits the batch may miss when it is trained, ``k_i``.
        greedy: How many commits the batch has to miss so that its training waits for none, ``g_i``.
        cap: How many missed commits can pay, ``k*`` of the estimates: see
            :func:`~pyg_mspipe.pipeline.durations.paying_staleness`.
        wait_for: The version without which the fetch may not start: ``i - bound``, or 0 if that is less. With ``exact``
            it is an older one, since missing commits are forwarded; waiting for it keeps the queue of commits bounded.
        expect: The version that the fetch should see; at least ``wait_for``, at most ``i``.
        fetch_at: Until when the fetch waits for version ``expect``: its latest start that costs no rate, in seconds.
        best: When training could start if memory were no dependency, ``best(i)``, in seconds.
    """

    batch: int
    bound: int
    greedy: int
    cap: int
    wait_for: int
    expect: int
    fetch_at: float
    best: float


class Scheduler:
    """Decides for one batch after the other how many commits the batch may miss, and when it fetches its memory.

    During warm-up there are no estimates, so that no staleness is known to pay: ``minimal`` misses no commit, and no
    fetch is delayed.

    Args:
        staleness: A mode, or a fixed bound.
        estimates: Estimates of the stages' durations from an earlier pass, if there are some. The code that runs the
            stages adds the durations that it measures.

    Attributes:
        staleness: The mode or bound.
        estimates: The running estimates that decisions follow.

    Raises:
        ValueError: If the staleness is neither a mode nor a bound.
    """

    def __init__(self, staleness: Staleness, estimates: RunningDurations | None = None) -> None:
        self.staleness = parse_staleness(staleness)
        self.estimates = RunningDurations() if estimates is None else estimates

    def decide(self, batch: int, state: PipelineState) -> Decision:
        """Returns the decision for a batch that has just been gathered.

        Args:
            batch: The batch, ``i``.
            state: The state of the pipeline at that moment.
        """
        durations, spread = self.estimates.current(), self.estimates.spread()
        if durations is None or spread is None:
            most = 2 + MOST_STALE if self.staleness == "exact" else self._fixed(0)
            return _undelayed(batch, state.now, self._fixed(0), most, greedy=0, cap=0, best=state.now)
        reserve = _RESERVE * (spread.gather**2 + spread.fetch**2 + spread.train**2 + spread.update**2) ** 0.5
        trained, landings = _predict(durations, batch, state)
        best = max(trained, state.now + durations.fetch)
        latest = best - durations.fetch + _ROUNDING * durations.period
        greedy = batch - state.version
        while greedy and landings[batch - greedy - state.version] + reserve <= latest:
            greedy -= 1
        cap = paying_staleness(durations, spread)
        if self.staleness not in ("exact", "minimal"):
            return _undelayed(batch, state.now, self._fixed(0), self._fixed(0), greedy=greedy, cap=cap, best=best)
        bound = min(greedy, cap) if self.staleness == "minimal" else 0
        # This batch must be fetched early enough for the next batch to be gathered and fetched while this one is
        # trained.
        # With `minimal`, a fetch that waited too long has waited in vain, so it keeps a reserve. With `exact`, the wait
        # has at least saved the forwarding of a commit.
        latest -= max(0.0, durations.gather + durations.fetch - durations.train)
        latest -= reserve if self.staleness == "minimal" else 0.0
        expect = state.version + sum(landing <= latest for landing in landings)
        wait_for = max(0, batch - (bound if self.staleness == "minimal" else 2 + cap))
        # A fetch waits only if a commit is expected meanwhile.
        fetch_at = latest if expect > state.version else state.now
        return Decision(batch, bound, greedy, cap, wait_for, max(expect, wait_for), fetch_at, best)

    def _fixed(self, otherwise: int) -> int:
        return self.staleness if isinstance(self.staleness, int) else otherwise


def _undelayed(batch: int, now: float, bound: int, behind: int, *, greedy: int, cap: int, best: float) -> Decision:
    wait_for = max(0, batch - behind)
    return Decision(batch, bound, greedy, cap, wait_for, wait_for, now, best)


def _predict(durations: Durations, batch: int, state: PipelineState) -> tuple[float, list[float]]:
    """Returns ``f_4(batch - 1)``, and ``f_5`` of the commits ``version..batch - 1``, by the clock.

    A stage that should have ended before is taken to end now.
    """
    now = state.now
    trained = begin = now
    rows: dict[int, float] = {}
    for i in range(state.training, batch):
        known = state.rows_at
        if i == state.training and state.train_begin is not None:
            begin = state.train_begin
        rows[i] = known if i == state.training and known is not None else max(now, begin + durations.rows)
        begin = trained = max(now, begin + durations.train)
    landings: list[float] = []
    landed = now
    for i in range(state.version, batch):
        if i == state.version and state.update_begin is not None:
            begin = state.update_begin
        else:
            begin = max(rows.get(i, now), landed)
        landed = max(now, begin + durations.update)
        landings.append(landed)
    return trained, landings
