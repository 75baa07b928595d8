import math
import random
from fractions import Fraction
from statistics import fmean
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.pipeline.durations import WARM_UP, WINDOW, Durations, Measured, RunningDurations, paying_staleness

STAGES = get_args(Measured)
NONE = Durations(0, 0, 0, 0, 0, rows=0)
seconds = st.floats(0, 100)
whole = st.integers(0, 60)


def estimates(**stages):
    """Estimates that saw the given durations of some stages, and 1 s often enough of the others."""
    running = RunningDurations()
    for stage in STAGES:
        for each in stages.get(stage, [1.0] * WARM_UP):
            running.observe(stage, each)
    return running


@given(st.lists(whole, min_size=5, max_size=5), st.integers(0, 60))
def test_the_cap_is_the_least_bound_whose_periods_the_loop_fits_into(tau, rows):
    rows = min(rows, tau[3])
    # Tenths are no binary fractions: with them sums and quotients are rounded.
    durations = Durations(*(each * 0.1 for each in tau), rows=rows * 0.1)
    sample, gather, fetch, train, update = map(Fraction, tau)
    period = max(sample, gather + fetch, train, update)
    bound = 0
    while (bound + 1) * period < fetch + rows + update:
        bound += 1
    assert durations.staleness_cap == bound <= 2


@pytest.mark.parametrize(
    ("tau", "cap"),
    [
        ((1, 1, 1, 5, 6), 1),
        ((1, 2, 3, 5, 3), 2),
        ((9, 1, 1, 1, 1), 0),
        ((0.1, 0.1, 0.1, 0.2, 0.3), 1),  # the sum of the last three is more than twice 0.3 in floating point
        ((0, 0, 1, 1, 1), 2),
        ((0, 0, 0, 0, 0), 0),
    ],
)
def test_the_cap_of_known_settings(tau, cap):
    durations = Durations(*tau, rows=tau[3])
    assert durations.staleness_cap == cap
    assert paying_staleness(durations, NONE) == cap


@given(*[st.floats(0.01, 10)] * 5, st.floats(0, 1))
def test_without_jitter_the_bound_that_pays_loses_at_most_one_percent(sample, gather, fetch, train, update, part):
    durations = Durations(sample, gather, fetch, train, update, rows=part * train)
    bound = paying_staleness(durations, NONE)
    assert bound <= durations.staleness_cap
    period = max(durations.period, durations.loop / (bound + 1))
    assert durations.period / period >= 0.99 - 1e-9
    if bound:
        assert durations.period / (durations.loop / bound) < 0.99 + 1e-9


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=5, max_size=5), st.floats(0, 3), st.floats(0, 3))
def test_more_jitter_never_makes_less_staleness_pay_and_two_commits_more_at_most(tau, some, more):
    durations = Durations(*tau, rows=tau[3])

    def paying(jitter):
        return paying_staleness(durations, Durations(*(jitter * each for each in tau), rows=jitter * tau[3]))

    low, high = sorted((some, more))
    assert paying(0) <= paying(low) <= paying(high) <= durations.staleness_cap + 2


def test_a_loop_that_just_fits_needs_a_commit_more_under_jitter():
    durations = Durations(1, 1, 1, 5, 6, rows=5)
    assert [
        paying_staleness(durations, Durations(0, 0, 0, jitter, jitter, rows=jitter)) for jitter in (0, 0.05, 0.5)
    ] == [
        1,
        1,
        2,
    ]


def test_there_is_no_estimate_until_every_stage_was_seen_five_times():
    running = RunningDurations()
    for count in range(WARM_UP):
        for stage in STAGES:
            assert running.current() is None
            assert running.spread() is None
            running.observe(stage, count)
    assert running.current() is not None
    assert running.spread() is not None


@given(seconds, st.integers(WARM_UP, 50))
def test_equal_durations_are_their_own_estimate_and_have_no_spread(each, count):
    running = estimates(fetch=[each] * count)
    assert running.current().fetch == each
    assert running.spread().fetch == 0


@pytest.mark.parametrize("before", [0, 4, 20, 60])
def test_a_batch_that_took_fifty_times_as_long_moves_nothing(before):
    running = estimates(gather=[2.0] * before + [100.0] + [2.0] * WARM_UP)
    assert running.current().gather == 2
    assert running.spread().gather == 0


def test_three_long_ones_in_a_row_move_nothing_once_the_window_is_full():
    assert estimates(update=[2.0] * WINDOW + [100.0] * 3).current().update == 2


def test_a_change_is_half_followed_after_16_batches_and_wholly_after_32():
    def after(batches):
        return estimates(train=[1.0] * 100 + [3.0] * batches).current().train

    assert after(3) == 1
    assert after(16) == pytest.approx(2)
    assert after(29) == after(100) == 3
    assert all(after(batches) <= after(batches + 1) for batches in range(40))


@given(st.lists(seconds, min_size=WARM_UP, max_size=80))
def test_an_estimate_is_the_mean_of_the_last_32_without_a_tenth_at_either_end(each):
    running = estimates(sample=each)
    last = sorted(each[-32:])
    left_out = max(1, len(last) // 10)
    kept = last[left_out : len(last) - left_out]
    assert running.current().sample == pytest.approx(fmean(kept))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_spread_and_mean_of_normal_durations_are_found(seed):
    rng = random.Random(seed)
    means, spreads = [], []
    running = estimates()
    for _ in range(60 * WINDOW):
        running.observe("sample", rng.normalvariate(10, 1))
        means.append(running.current().sample)
        spreads.append(running.spread().sample)
    assert fmean(means[WINDOW:]) == pytest.approx(10, abs=0.1)
    assert fmean(spreads[WINDOW:]) == pytest.approx(1, rel=0.12)


def test_rows_exist_by_the_end_of_training():
    assert estimates(rows=[2.0] * 9, train=[1.5] * 9).current().rows == 1.5


@pytest.mark.parametrize("each", [-1e-9, math.nan, math.inf])
def test_a_duration_that_is_none_is_refused(each):
    with pytest.raises(ValueError, match=r"stage train took .* s; give the seconds between two readings"):
        RunningDurations().observe("train", each)
