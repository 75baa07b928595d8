from math import prod

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import load_stream, split_stream, synthetic
from pyg_mspipe.distributed import ParallelPlan, PlanError
from pyg_mspipe.distributed.plan import shapes, spread
from pyg_mspipe.distributed.planner import choose_plan, last_dependency, missed_share

PLENTY, SIZE = 2**40, 563_224


@st.composite
def ends(draw, least=1):
    """Sources and destinations on a few nodes whose ids lie far apart, with self-loops and repeats."""
    nodes = st.sampled_from([0, 1, 2, 7, 2**62])
    src, dst = zip(*draw(st.lists(st.tuples(nodes, nodes), min_size=least, max_size=30)), strict=True)
    return torch.tensor(src), torch.tensor(dst)


def touches(src, dst, event):
    return {int(src[event]), int(dst[event])}


def stream(src, dst):
    """The stream of these ends, an event in each second."""
    src, dst = torch.as_tensor(src), torch.as_tensor(dst)
    return TemporalData(src=src, dst=dst, t=torch.arange(len(src)), msg=torch.zeros(len(src), 2))


def chosen(data, **options):
    given_options = {"world": 4, "host_memory": PLENTY, "group_bytes": SIZE} | options
    return choose_plan(data, range(data.num_events), **given_options)


@pytest.fixture(scope="module")
def sparse():
    """A stream in which no event misses anything in batches of up to 400."""
    node = torch.arange(400).repeat(8)
    return stream(node, node + 400)


@given(ends())
def test_the_last_dependency_is_the_last_earlier_event_with_either_node_in_either_role(events):
    src, dst = events
    for event, found in enumerate(last_dependency(src, dst).tolist()):
        earlier = [e for e in range(event) if touches(src, dst, e) & touches(src, dst, event)]
        assert found == max(earlier, default=-1)


@given(ends(), st.integers(1, 35))
def test_the_missed_share_counts_events_with_a_node_that_occurred_earlier_in_the_batch(events, batch_size):
    src, dst = events
    missed = 0
    for event in range(len(src)):
        batch = range(event - event % batch_size, event)
        missed += any(touches(src, dst, e) & touches(src, dst, event) for e in batch)
    assert missed_share(last_dependency(src, dst), batch_size) == pytest.approx(missed / len(src))


def test_batches_of_one_event_miss_nothing_and_a_larger_batch_that_holds_smaller_ones_no_less():
    data = synthetic(2_000, num_src=50, num_dst=50)
    dependency = last_dependency(data.src, data.dst)
    shares = [missed_share(dependency, 2**n) for n in range(12)]
    assert shares[0] == 0
    assert shares == sorted(shares)


@given(st.integers(1, 60))
def test_shapes_are_all_plans_of_the_world_each_once(world):
    found = list(shapes(world))
    numbers = range(1, world + 1)
    pairs = [(i, j) for i in numbers if world % i == 0 for j in numbers if world // i % j == 0]
    assert {(plan.minibatch, plan.epoch, plan.memory) for plan in found} == {(i, j, world // i // j) for i, j in pairs}
    assert len(found) == len(pairs)


def test_trainers_are_spread_evenly_or_refused():
    assert spread(8, 2) == [4, 4]
    for world, hosts in ((7, 2), (2, 4), (0, 1), (4, 0), (-4, 2)):
        with pytest.raises(PlanError, match=f"^{world} trainers on {hosts} hosts; give each host the same number"):
            spread(world, hosts)


def test_powers_of_two_times_50_up_to_12800_and_whole_multiples_of_the_batch_size_are_measured():
    data = synthetic(2_000, num_src=50, num_dst=50)
    choice = chosen(data, world=6, batch_size=30)
    assert [each.batch_size for each in choice.measured] == [30, 50, 60, 90, 100, 180, 200, 400, 800, 1600]
    dependency = last_dependency(data.src, data.dst)
    base = missed_share(dependency, 30)
    for each in choice.measured:
        assert each.missed == missed_share(dependency, each.batch_size)
        assert each.loss == pytest.approx(1 - (1 - each.missed) / (1 - base))
    long = synthetic(30_000, num_src=50, num_dst=50)
    assert max(each.batch_size for each in chosen(long).measured) == 12_800


def test_nothing_is_measured_beyond_the_stream_but_the_batch_of_one_trainer():
    choice = chosen(synthetic(300, num_src=50, num_dst=50), batch_size=1000)
    assert [each.batch_size for each in choice.measured] == [50, 100, 200, 1000]
    assert choice.plan.minibatch == 1


def test_i_is_the_largest_divisor_whose_batch_loses_no_more_than_allowed(sparse):
    # Every node is back after 400 events: up to 400 nothing is missed, and at 800 half of the events do.
    assert {each.batch_size: each.loss for each in chosen(sparse, batch_size=100).measured} == {
        50: 0, 100: 0, 200: 0, 400: 0, 800: 0.5, 1600: 0.75, 3200: 0.875
    }  # fmt: skip
    for batch_size, world, minibatch in ((100, 4, 4), (100, 8, 4), (200, 8, 2), (200, 3, 1), (100, 3, 3), (400, 8, 1)):
        choice = chosen(sparse, batch_size=batch_size, world=world)
        assert choice.largest_batch == 400
        assert choice.plan.minibatch == minibatch
    choice = chosen(sparse, batch_size=100, world=8, max_loss=0.5)
    assert (choice.largest_batch, choice.plan.minibatch) == (800, 8)


def test_a_batch_beyond_one_that_loses_too_much_is_not_taken_even_if_it_loses_less():
    # Of six events the third and fourth share a source: batches of 2 hold both, batches of 3 part them.
    data = stream([6 * n + node for n in range(20) for node in (0, 1, 2, 2, 4, 5)], range(1000, 1120))
    losses = {each.batch_size: each.loss for each in chosen(data, world=6, batch_size=1).measured}
    assert (losses[2], losses[3]) == (pytest.approx(1 / 6), 0)
    assert chosen(data, world=6, batch_size=1, max_loss=0.1).plan.minibatch == 1
    assert chosen(data, world=6, batch_size=1, max_loss=0.2).plan.minibatch == 6


def test_a_batch_smaller_than_one_trainers_decides_nothing_even_if_it_loses_more():
    # Two events share a source, in one batch of 50 and in two of 75.
    data = stream([72 if node == 78 else node for node in range(300)], range(1000, 1300))
    choice = chosen(data, world=2, batch_size=75, max_loss=0)
    losses = {each.batch_size: each.loss for each in choice.measured}
    assert losses[50] > losses[75] == 0
    assert (choice.largest_batch, choice.plan) == (75, ParallelPlan(1, 1, 2))


def test_a_host_holds_the_whole_batch_whatever_other_hosts_have(sparse):
    choice = chosen(sparse, batch_size=50, world=8, hosts=4)
    assert choice.largest_batch == 400
    assert choice.plan == ParallelPlan(2, 1, 4)


@pytest.mark.parametrize(
    ("groups", "world", "hosts", "plan"),
    [
        (1, 8, 1, "1x8x1"),
        (2, 8, 1, "1x4x2"),
        (3, 8, 1, "1x4x2"),
        (4, 8, 1, "1x2x4"),
        (9, 8, 1, "1x1x8"),
        (1, 8, 2, "1x4x2"),
        (2, 8, 2, "1x2x4"),
        (3, 6, 1, "1x2x3"),
    ],
)
def test_k_is_the_most_groups_that_fit_into_the_hosts_and_j_is_the_rest(sparse, groups, world, hosts, plan):
    size = chosen(sparse, batch_size=400).group_bytes
    choice = chosen(sparse, batch_size=400, world=world, hosts=hosts, host_memory=groups * size + size // 2)
    assert str(choice.plan) == plan


def test_there_are_no_more_groups_than_batches(sparse):
    # 3200 events are 4 batches of 800.
    assert chosen(sparse, batch_size=800, world=8).plan == ParallelPlan(1, 2, 4)
    message = "^3200 training events are 4 batches of 800, and each of 8 hosts begins at another; take a smaller batch"
    with pytest.raises(PlanError, match=message):
        chosen(sparse, batch_size=800, world=8, hosts=8)


@settings(deadline=None, max_examples=50)
@given(ends(least=4), st.integers(1, 12), st.integers(1, 3), st.integers(1, 8), st.floats(0, 0.9), st.integers(1, 5))
def test_every_choice_is_a_plan_of_the_world_that_fits(events, each, hosts, batch_size, max_loss, room):
    src, dst = (x % 11 for x in events)
    data = stream(src, dst)
    size = SIZE
    options = {"world": each * hosts, "hosts": hosts, "batch_size": batch_size, "max_loss": max_loss}
    if -(-len(src) // batch_size) < hosts:
        with pytest.raises(PlanError, match="hosts begins at another"):
            chosen(data, **options, host_memory=room * size)
        return
    assume(-(-len(src) // (each * batch_size)) >= hosts)
    choice = chosen(data, **options, host_memory=room * size)
    plan = choice.plan
    assert prod((plan.minibatch, plan.epoch, plan.memory)) == each * hosts
    host_of = plan.hosts([each] * hosts)
    assert max(host_of.count(host) for host in range(hosts)) * choice.group_bytes <= room * size
    assert plan.minibatch == 1 or plan.minibatch * batch_size <= choice.largest_batch
    assert plan.memory <= -(-len(src) // (plan.minibatch * batch_size))
    by_size = {measured.batch_size: measured for measured in choice.measured}
    assert by_size[choice.largest_batch].loss <= max_loss
    assert [reason[:4] for reason in choice.reasons] == ["batc", "i = ", "k = ", "j = "]


def test_the_reasons_name_the_figures_that_decided(sparse):
    size = chosen(sparse, batch_size=200).group_bytes
    reasons = chosen(sparse, world=8, batch_size=200, host_memory=3 * size).reasons
    assert reasons[0] == (
        "batch of at most 400: at 200, the batch of one trainer, 100.0% of the events miss no dependency; at 800, "
        "50.0% of those do, more than 20.0%"
    )
    assert reasons[1] == (
        "i = 2: 2 x 200 events make a batch of 400; 4, the next divisor of the 8 on a host, would make one of 800"
    )
    assert "(800 nodes), and 4 of them on a host do not fit into its" in reasons[2]
    assert reasons[2].startswith("k = 2: a memory group takes ")
    assert reasons[3] == "j = 2: the remaining trainers, which take turns at new batches within a memory group"
    few = chosen(sparse, batch_size=800, world=8).reasons
    assert few[2].endswith("; 8 of them on a host would fit, but could not begin at different ones of 4 batches")
    whole = chosen(sparse, batch_size=100).reasons
    assert whole[1] == "i = 4: 4 x 100 events make a batch of 400, with all trainers of a host"
    assert whole[2].endswith("and a host has 1,024.0 GiB for its 1, the most that its trainers make")


def test_a_group_that_fits_no_host_is_refused_with_both_sizes(sparse):
    assert chosen(sparse, batch_size=400).group_bytes == SIZE
    message = r"^a memory group takes 550 KiB and a host has 9\.77 KiB for them; take narrower"
    with pytest.raises(PlanError, match=message):
        chosen(sparse, batch_size=400, host_memory=10_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": 5, "hosts": 2}, "5 trainers on 2 hosts"),
        ({"batch_size": 0}, "the batch size is 0; give a number from 1"),
        ({"batch_size": 10**30}, "the batch size is 1000000000000000000000000000000; give"),
        ({"max_loss": 1.0}, "the largest loss is 1.0; give a share from 0 to below 1"),
        ({"max_loss": -0.1}, "the largest loss is -0.1"),
        ({"max_loss": float("nan")}, "the largest loss is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(sparse, options, message):
    with pytest.raises(PlanError, match=f"^{message}"):
        chosen(sparse, **options)


def test_only_the_given_events_count():
    data = synthetic(3_000, num_src=80, num_dst=80)
    first = data[:1_000]
    options = {"world": 4, "host_memory": PLENTY, "group_bytes": SIZE, "batch_size": 50}
    assert choose_plan(data, range(1_000), **options).measured == choose_plan(first, range(1_000), **options).measured
    later = choose_plan(data, range(2_000, 3_000), **options)
    assert later.measured != choose_plan(data, range(1_000), **options).measured


@pytest.mark.parametrize(
    ("name", "missed"), [("wikipedia", {200: 0.6835, 400: 0.7513}), ("collegemsg", {200: 0.8354, 400: 0.8877})]
)
def test_real_streams_are_measured_as_by_a_loop(shared_data, name, missed):
    data = load_stream(shared_data / f"{name}.npz")
    events = split_stream(data).train
    choice = choose_plan(data, events, world=4, host_memory=PLENTY, group_bytes=SIZE)
    found = {each.batch_size: each.missed for each in choice.measured}
    pairs = list(zip(data.src[: len(events)].tolist(), data.dst[: len(events)].tolist(), strict=True))
    for size, share in missed.items():
        count = 0
        for begin in range(0, len(pairs), size):
            seen = set()
            for pair in pairs[begin : begin + size]:
                count += not seen.isdisjoint(pair)
                seen.update(pair)
        assert found[size] == pytest.approx(count / len(pairs), abs=1e-12)
        assert found[size] == pytest.approx(share, abs=1e-4)
    assert choice.plan == ParallelPlan(1, 1, 4)
