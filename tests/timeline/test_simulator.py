import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mspipe.pipeline.durations import Durations, RunningDurations
from pyg_mspipe.pipeline.record import STAGES
from pyg_mspipe.pipeline.scheduler import Scheduler
from pyg_mspipe.timeline.simulator import draw_durations, simulate

MODES = ["sequential", "exact", "minimal", 0, 1, 4]
# What limits each: training, the copy path, the update, sampling; or several at once.
SETTINGS = {
    "training": (1, 1, 1, 5, 2),
    "training, all in the loop": (0.1, 0.1, 1, 5, 5),
    "copy": (1, 3, 3, 4, 2),
    "copy, of short gathers": (1, 0.5, 5, 3, 3),
    "update": (1, 1, 1, 5, 6),
    "update alone": (0.1, 0.1, 0.1, 0.1, 3),
    "sampling": (6, 2, 1, 4, 3),
    "all": (4, 2, 2, 4, 4),
}


@st.composite
def means(draw):
    lengths = st.floats(0.2, 6)
    sample, gather, fetch, train, update = (draw(lengths) for _ in range(5))
    return Durations(sample, gather, fetch, train, update, rows=draw(st.floats(0.1, 1)) * train)


def of(tau, rows=1.0):
    return Durations(*tau, rows=rows * tau[3])


def whole_rate(result):
    """Batches per second from the first to the last: unlike the steady rate, no start that lags makes it larger."""
    return len(result.records) / result.records[-1].finish["update"]


def waiting_commits(result):
    """The most commits that were due at once: batches whose rows existed and were not in memory yet."""
    moments = [(record.rows_at, 1) for record in result.records]
    moments += [(record.finish["update"], -1) for record in result.records]
    due = most = 0
    for _, step in sorted(moments):
        due += step
        most = max(most, due)
    return most


def listed(durations):
    return [] if durations is None else list(vars(durations).values())


class Watching(Scheduler):
    """Keeps what each decision was made from."""

    def __init__(self, staleness):
        super().__init__(staleness)
        self.known = []

    def decide(self, batch, progress):
        self.known.append((progress, self.estimates.current()))
        return super().decide(batch, progress)


class Greedy(Scheduler):
    """The rule without the cap."""

    def decide(self, batch, progress):
        decision = super().decide(batch, progress)
        wait_for = batch - decision.greedy
        return replace(decision, bound=decision.greedy, wait_for=wait_for, expect=max(wait_for, decision.expect))


@given(means(), st.sampled_from(["exact", "minimal", 0, 1, 3]), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_every_stage_begins_when_the_clock_says(mean, mode, prefetch, seed):
    durations = draw_durations(mean, 40, jitter=0.4, seed=seed)
    result = simulate(durations, mode, prefetch=prefetch)
    b = {stage: [record.begin[stage] for record in result.records] for stage in STAGES}
    f = {stage: [record.finish[stage] for record in result.records] for stage in STAGES}
    rows = [record.rows_at for record in result.records]

    def at(moments, i):
        return moments[i] if i >= 0 else 0.0

    for i, took in enumerate(durations):
        assert [f[stage][i] for stage in STAGES] == [b[stage][i] + getattr(took, stage) for stage in STAGES]
        assert rows[i] == b["train"][i] + took.rows
        assert b["sample"][i] == max(at(f["sample"], i - 1), at(b["train"], i - prefetch))
        assert b["gather"][i] == max(f["sample"][i], at(f["gather"], i - 1), at(f["fetch"], i - 1))
        assert b["train"][i] == max(f["fetch"][i], at(f["train"], i - 1))
        assert b["update"][i] == max(rows[i], at(f["update"], i - 1))
        decision = result.decisions[i]
        needed = max(f["gather"][i], at(f["update"], decision.wait_for - 1))
        # Past what it needs it waits for a time, a commit or the trainer, whichever comes first.
        patience = min(decision.fetch_at, at(f["train"], i - 1), at(f["update"], decision.expect - 1))
        assert b["fetch"][i] == max(needed, patience)
        if isinstance(mode, int):
            assert b["fetch"][i] == max(f["gather"][i], at(f["update"], i - 1 - mode))


@given(means(), st.sampled_from(MODES), st.floats(0, 0.5), st.integers(0, 9), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_batch_is_staler_than_its_bound_and_the_bound_is_at_most_the_cap(mean, mode, jitter, seed, warm):
    result = simulate(draw_durations(mean, 60, jitter=jitter, seed=seed), mode, warm=warm)
    for record in result.records:
        seen = sum(other.finish["update"] <= record.begin["fetch"] for other in result.records[: record.index])
        assert record.fetched == seen
        assert record.staleness == (0 if mode == "exact" else record.index - seen)
        assert record.staleness <= record.bound
    if mode == "minimal":
        assert all(record.bound <= each.cap for record, each in zip(result.records, result.decisions, strict=True))
        assert all(each.bound <= each.greedy for each in result.decisions)
    if mode in ("exact", "sequential"):
        assert all(record.bound == 0 for record in result.records)


@given(means(), st.sampled_from(["exact", "minimal", 2]))
@settings(max_examples=20, deadline=None)
def test_a_decision_knows_what_happened_before_it_and_nothing_else(mean, mode):
    watching = Watching(mode)
    records = simulate(draw_durations(mean, 40, jitter=0.4), watching, warm=False).records
    for i, (progress, durations) in enumerate(watching.known):
        now, before = progress.now, records[:i]
        assert now == records[i].finish["gather"]
        trained = [record for record in before if record.finish["train"] <= now]
        begun = [record for record in before[len(trained) :] if record.begin["train"] <= now]
        committed = [record for record in before if record.finish["update"] <= now]
        updating = [record for record in before[len(committed) :] if record.begin["update"] <= now]
        assert (progress.training, progress.version) == (len(trained), len(committed))
        assert progress.train_begin == (begun[0].begin["train"] if begun else None)
        assert progress.rows_at == (begun[0].rows_at if begun and begun[0].rows_at <= now else None)
        assert progress.update_begin == (updating[0].begin["update"] if updating else None)
        estimates = RunningDurations()
        for record in records[: i + 1]:
            for stage in STAGES:
                if stage in ("sample", "gather") or (record.index < i and record.finish[stage] <= now):
                    estimates.observe(stage, record.duration(stage))
            if record.index < i and record.rows_at <= now:
                estimates.observe("rows", record.rows_at - record.begin["train"])
        assert listed(durations) == pytest.approx(listed(estimates.current()))


@given(means())
@settings(max_examples=20, deadline=None)
def test_minimal_reaches_the_best_fixed_bound(mean):
    durations = [mean] * 200
    best = max(whole_rate(simulate(durations, bound)) for bound in range(11))
    minimal = simulate(durations, "minimal")
    assert whole_rate(minimal) >= 0.98 * best
    assert max(minimal.staleness) <= mean.staleness_cap
    # Once warm. What warming up costs is a matter of some batches.
    assert simulate(durations, "minimal", warm=False).rate >= 0.98 * best


@pytest.mark.parametrize("jitter", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_minimal_reaches_the_best_fixed_bound_when_durations_vary(jitter, seed):
    rng = random.Random(seed)
    train = rng.uniform(0.2, 6)
    others = [rng.uniform(0.2, 6) for _ in range(4)]
    mean = Durations(*others[:3], train, others[3], rows=rng.uniform(0.2, 1) * train)
    durations = draw_durations(mean, 600, jitter=jitter, seed=seed)
    # More than 6 never wins anything: prefetching ends before.
    best = max(whole_rate(simulate(durations, bound)) for bound in range(7))
    assert whole_rate(simulate(durations, "minimal")) >= 0.98 * best


@pytest.mark.parametrize("seed", range(4))
def test_what_jitter_needs_beyond_the_mean_is_worth_it(seed):
    # The loop fits into two periods on average. That this suffices is true of the average alone.
    durations = draw_durations(of((0.3, 2.9, 0.9, 4.4, 4.6), rows=0.8), 600, jitter=0.3, seed=seed)
    bound_of_means = whole_rate(simulate(durations, 1))
    assert whole_rate(simulate(durations, "minimal")) >= 1.03 * bound_of_means


def test_where_the_update_is_slowest_staleness_stays_at_one_while_the_greedy_rule_runs_away():
    durations = [of((1, 1, 1, 5, 6))] * 250
    minimal = simulate(durations, "minimal")
    greedy = simulate(durations, Greedy("minimal"))
    assert max(minimal.staleness) == 1
    assert max(greedy.staleness) > 30
    assert minimal.rate == pytest.approx(1 / 6)
    assert greedy.rate == pytest.approx(minimal.rate)


@given(means(), st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_exact_has_no_staleness_and_the_rate_of_minimal(mean, jitter, seed):
    durations = draw_durations(mean, 200, jitter=jitter, seed=seed)
    exact = simulate(durations, "exact")
    assert set(exact.staleness) == {0}
    assert whole_rate(exact) >= 0.95 * whole_rate(simulate(durations, "minimal"))


@pytest.mark.parametrize("rows", [0.3, 1.0])
@pytest.mark.parametrize("mode", ["exact", "minimal"])
@pytest.mark.parametrize("tau", SETTINGS.values(), ids=SETTINGS)
def test_three_prefetched_batches_keep_the_slowest_stage_busy(tau, mode, rows):
    result = simulate([of(tau, rows)] * 200, mode)
    assert result.rate >= 0.98 * result.best_rate
    assert result.rate <= (1 + 1e-9) * result.best_rate


@pytest.mark.parametrize("tau", SETTINGS.values(), ids=SETTINGS)
def test_sequential_takes_the_sum_of_all_stages(tau):
    result = simulate([of(tau)] * 20, "sequential")
    assert result.rate == pytest.approx(1 / sum(tau))
    assert set(result.staleness) == {0}
    assert [record.fetched for record in result.records] == list(range(20))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_the_queue_of_commits_is_bounded(mode, jitter):
    durations = draw_durations(of((0.1, 0.1, 0.1, 0.5, 6), rows=0.1), 300, jitter=jitter)
    allowed = {"sequential": 1, "exact": 6, "minimal": 5}.get(mode, 1 if mode in MODES[:3] else mode + 1)
    assert waiting_commits(simulate(durations, mode)) <= allowed
    assert waiting_commits(simulate(durations, mode, warm=False)) <= allowed


def test_a_fixed_bound_uses_its_staleness_where_the_update_is_slow():
    durations = [of((0.1, 0.1, 0.1, 0.5, 3))] * 60
    for bound in range(1, 5):
        assert set(simulate(durations, bound).staleness[10:]) == {bound}


def test_a_delayed_fetch_sees_more_than_it_must():
    # Training takes long and commits are quick: a fetch at once would miss the commits that land meanwhile.
    durations = [of((0.1, 0.1, 0.1, 5, 0.5), rows=0.5)] * 60
    assert set(simulate(durations, "minimal").staleness[5:]) == {0}
    assert min(simulate(durations, 3).staleness[5:]) >= 2


@given(means(), st.sampled_from(MODES), st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_the_same_durations_give_the_same_pass(mean, mode, seed):
    one, two = (simulate(draw_durations(mean, 50, jitter=0.3, seed=seed), mode) for _ in range(2))
    assert one == two


def test_estimates_of_an_earlier_pass_are_used_and_added_to():
    estimates = RunningDurations()
    first = simulate([of((1, 2, 3, 5, 3))] * 60, Scheduler("minimal", estimates), warm=False)
    second = simulate([of((1, 2, 3, 5, 3))] * 60, Scheduler("minimal", estimates), warm=False)
    assert first.decisions[0].cap == 0
    assert second.decisions[0].cap == 2


def test_jitter_keeps_means_and_is_as_large_as_said():
    mean = of((1, 2, 3, 4, 5), rows=0.5)
    drawn = draw_durations(mean, 20000, jitter=0.3)
    for stage in STAGES:
        each = [getattr(durations, stage) for durations in drawn]
        average = sum(each) / len(each)
        assert average == pytest.approx(getattr(mean, stage), rel=0.02)
        deviation = (sum((x - average) ** 2 for x in each) / len(each)) ** 0.5
        assert deviation == pytest.approx(0.3 * average, rel=0.05)
    assert all(durations.rows == pytest.approx(durations.train / 2) for durations in drawn)
    assert draw_durations(mean, 3) == pytest.approx([mean] * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([of((1, 1, 1, 1, 1))], "exact"), "1 batches make no rate"),
        (([of((0, 0, 0, 0, 0))] * 9, "exact"), "all durations are 0"),
        (([of((1, 1, 1, 1, 1))] * 9, "fast"), "staleness is 'fast'"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(*arguments)
    with pytest.raises(ValueError, match="prefetch=0; give at least 1"):
        simulate([of((1, 1, 1, 1, 1))] * 9, "exact", prefetch=0)
