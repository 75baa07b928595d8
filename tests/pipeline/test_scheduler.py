from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyg_mspipe.pipeline.durations import Durations, RunningDurations
from pyg_mspipe.pipeline.scheduler import PipelineState, Scheduler, parse_staleness

# Quarters are exact in binary, so that what is equal on paper is equal here.
quarters = st.integers(0, 40).map(lambda n: n / 4)
STEADY = Durations(1, 1, 1, 5, 6, rows=5)


def known(durations):
    """Estimates that have seen these durations only."""
    estimates = RunningDurations()
    for stage in ("sample", "gather", "fetch", "train", "rows", "update"):
        for _ in range(5):
            estimates.observe(stage, getattr(durations, stage))
    return estimates


@st.composite
def some_durations(draw):
    sample, gather, fetch, train, update = (draw(quarters) for _ in range(5))
    return Durations(sample, gather, fetch, train, update, rows=min(train, draw(quarters)))


@st.composite
def situations(draw):
    """A gathered batch, and how far training and commits are: some batches are trained, fewer are committed."""
    now = 1000 + draw(quarters)
    version = draw(st.integers(0, 20))
    training = version + draw(st.integers(0, 5))
    batch = training + draw(st.integers(0, 4))
    begun = training < batch and draw(st.booleans())
    train_begin = now - draw(quarters) if begun else None
    rows_at = (
        train_begin + (now - train_begin) * draw(st.sampled_from([0, 0.5, 1]))
        if begun and draw(st.booleans())
        else None
    )
    has_rows = version < training or (version == training and rows_at is not None)
    update_begin = now - draw(quarters) if has_rows and draw(st.booleans()) else None
    return batch, PipelineState(now, training, train_begin, rows_at, version, update_begin)


class Clock:
    """The recursions of the clock, from what is known on."""

    def __init__(self, tau, state):
        self.tau, self.at = tau, state
        self.f4, self.u, self.f5 = cache(self.f4), cache(self.u), cache(self.f5)

    def b4(self, i):
        if i == self.at.training and self.at.train_begin is not None:
            return self.at.train_begin
        return max(self.at.now, self.f4(i - 1))

    def f4(self, i):
        return self.at.now if i < self.at.training else max(self.at.now, self.b4(i) + self.tau.train)

    def u(self, i):
        if i < self.at.training:
            return self.at.now
        if i == self.at.training and self.at.rows_at is not None:
            return self.at.rows_at
        return max(self.at.now, self.b4(i) + self.tau.rows)

    def f5(self, i):
        if i < self.at.version:
            return self.at.now
        begin = max(self.u(i), self.f5(i - 1))
        if i == self.at.version and self.at.update_begin is not None:
            begin = self.at.update_begin
        return max(self.at.now, begin + self.tau.update)


def brute_force(tau, batch, state):
    """Returns ``best`` and the least bound for which training starts then, tried one after the other."""
    clock = Clock(tau, state)
    best = max(clock.f4(batch - 1), state.now + tau.fetch)
    bounds = [k for k in range(batch + 1) if max(state.now, clock.f5(batch - 1 - k)) + tau.fetch <= best]
    return clock, best, min(bounds)


@given(some_durations(), situations())
def test_the_bound_is_the_least_that_delays_nothing_and_never_more_than_the_cap(tau, situation):
    batch, state = situation
    decision = Scheduler("minimal", known(tau)).decide(batch, state)
    _, best, least = brute_force(tau, batch, state)
    assert decision.batch == batch
    assert decision.best == pytest.approx(best)
    assert decision.greedy == least
    assert decision.cap <= tau.staleness_cap
    assert decision.bound == min(least, decision.cap)
    assert decision.wait_for == batch - decision.bound


@given(some_durations(), situations())
def test_the_fetch_waits_for_commits_that_land_before_its_latest_start_and_for_nothing_else(tau, situation):
    batch, state = situation
    decision = Scheduler("minimal", known(tau)).decide(batch, state)
    clock, best, _ = brute_force(tau, batch, state)
    latest = best - tau.fetch - max(0, tau.gather + tau.fetch - tau.train)
    seen = max(v for v in range(batch + 1) if v <= state.version or clock.f5(v - 1) <= latest)
    assert decision.expect == max(seen, decision.wait_for)
    assert decision.fetch_at == pytest.approx(latest if seen > state.version else state.now)
    assert decision.fetch_at >= state.now


@given(some_durations(), situations())
def test_the_fetch_sees_what_a_fetch_at_the_latest_start_would_see(tau, situation):
    batch, state = situation
    decision = Scheduler("minimal", known(tau)).decide(batch, state)
    clock, best, _ = brute_force(tau, batch, state)
    assume(decision.greedy <= decision.cap)
    # With both waits over, training still starts when it could have without memory.
    start = max(state.now, clock.f5(decision.wait_for - 1), min(decision.fetch_at, clock.f5(decision.expect - 1)))
    assert start + tau.fetch <= best + 1e-6


@given(some_durations(), situations(), st.integers(0, 9))
def test_a_fixed_bound_holds_for_every_batch_and_its_fetch_is_not_delayed(tau, situation, bound):
    batch, state = situation
    for estimates in (known(tau), RunningDurations()):
        decision = Scheduler(bound, estimates).decide(batch, state)
        assert (decision.bound, decision.wait_for) == (bound, max(0, batch - bound))
        assert (decision.fetch_at, decision.expect) == (state.now, decision.wait_for)


@given(some_durations(), situations())
def test_exact_is_never_stale_and_waits_for_less_than_minimal(tau, situation):
    batch, state = situation
    exact, minimal = (Scheduler(mode, known(tau)).decide(batch, state) for mode in ("exact", "minimal"))
    assert exact.bound == 0
    assert exact.wait_for == max(0, batch - 2 - exact.cap) <= minimal.wait_for
    assert exact.fetch_at == minimal.fetch_at


@given(some_durations(), situations())
def test_sequential_waits_for_every_commit(tau, situation):
    batch, state = situation
    decision = Scheduler("sequential", known(tau)).decide(batch, state)
    assert (decision.bound, decision.wait_for, decision.expect) == (0, batch, batch)


@given(situations())
def test_nothing_is_missed_or_delayed_before_there_are_estimates(situation):
    batch, state = situation
    minimal, exact = (Scheduler(mode).decide(batch, state) for mode in ("minimal", "exact"))
    assert (minimal.bound, minimal.cap, minimal.wait_for, minimal.fetch_at) == (0, 0, batch, state.now)
    assert (exact.bound, exact.wait_for, exact.fetch_at) == (0, max(0, batch - 4), state.now)


@given(some_durations(), situations(), st.lists(st.floats(0.5, 2), min_size=8, max_size=8))
def test_durations_that_vary_reserve_time_for_late_commits(tau, situation, factors):
    batch, state = situation
    estimates = RunningDurations()
    for factor in factors:
        for stage in ("sample", "gather", "fetch", "train", "rows", "update"):
            estimates.observe(stage, factor * getattr(tau, stage))
    decision = Scheduler("minimal", estimates).decide(batch, state)
    assert decision.bound == min(decision.greedy, decision.cap)
    assert decision.greedy >= Scheduler("minimal", known(estimates.current())).decide(batch, state).greedy
    assert decision.wait_for <= decision.expect <= batch
    assert state.now <= decision.fetch_at <= max(state.now, decision.best)


def test_the_commit_under_way_is_waited_for_where_training_takes_longer():
    # Batch 8 is gathered at 100; batch 7 trains until 103, commit 7 follows until 104 at the earliest.
    tau = Durations(1, 1, 1, 5, 1, rows=5)
    decision = Scheduler("minimal", known(tau)).decide(8, PipelineState(100.0, 7, 98.0, None, 6, 99.5))
    assert (decision.best, decision.greedy, decision.bound) == (103, 1, 1)
    assert decision.fetch_at == pytest.approx(102)
    assert decision.expect == 7


def test_decisions_are_a_function_of_progress_and_estimates():
    scheduler, state = Scheduler("minimal", known(STEADY)), PipelineState(100.0, 7, 98.0, None, 6, 99.5)
    assert scheduler.decide(8, state) == scheduler.decide(8, state)


@pytest.mark.parametrize(
    ("text", "staleness"),
    [("minimal", "minimal"), ("exact", "exact"), ("sequential", "sequential"), ("3", 3), ("0", 0), (4, 4)],
)
def test_a_staleness_is_read(text, staleness):
    assert parse_staleness(text) == staleness
    assert Scheduler(text).staleness == staleness


@pytest.mark.parametrize("text", ["", "fast", "-1", "1.5", " 3", "³", "+2", -1, True, "Minimal"])
def test_what_is_no_staleness_is_refused(text):
    with pytest.raises(
        ValueError, match=r"staleness is .*; choose sequential, exact, minimal or a whole number from 0"
    ):
        parse_staleness(text)
