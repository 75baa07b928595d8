from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import check_stream, load_stream, summarize
from pyg_mspipe.data.summary import count_nodes


def stream(src, dst, t=None, y=None):
    data = TemporalData(src=torch.tensor(src), dst=torch.tensor(dst), t=torch.tensor(t or list(range(len(src)))), y=y)
    return check_stream(data)


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=40))
def test_counts_agree_with_a_loop_over_the_events(events):
    events = sorted(events, key=lambda event: event[2])
    src, dst, t = (list(column) for column in zip(*events, strict=True))
    summary = summarize(stream(src, dst, t))
    times = Counter(t)
    degree = Counter(node for event in events for node in {event[0], event[1]})
    ordered = sorted(degree.values())
    assert summary.num_events == len(events)
    assert summary.num_nodes == max(degree) + 1
    assert summary.min_id == min(degree)
    assert summary.num_distinct_nodes == len(degree)
    assert (summary.num_sources, summary.num_destinations) == (len(set(src)), len(set(dst)))
    assert summary.bipartite == (not set(src) & set(dst))
    assert (summary.first_time, summary.last_time, summary.num_distinct_times) == (t[0], t[-1], len(times))
    assert summary.tied_share == pytest.approx(sum(times[time] > 1 for time in t) / len(t))
    assert summary.largest_tie == max(times.values())
    assert summary.num_self_loops == sum(s == d for s, d in zip(src, dst, strict=True))
    assert summary.repeat_share == pytest.approx(1 - len(set(zip(src, dst, strict=True))) / len(src))
    assert summary.degrees.max == ordered[-1]
    for share, value in ((0.5, summary.degrees.median), (0.9, summary.degrees.p90), (0.99, summary.degrees.p99)):
        assert value == next(d for d in ordered if sum(other <= d for other in ordered) >= share * len(ordered) - 1e-9)
    differences = sum(abs(a - b) for a in ordered for b in ordered)
    assert summary.degrees.gini == pytest.approx(differences / (2 * len(ordered) * sum(ordered)), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "last", "unit"),
    [
        (0, 2_678_373, "relative"),
        (719_646, 731_923, "relative"),
        (1_082_040_961, 1_098_777_142, "epoch seconds"),
        (1_700_000_000_000, 1_700_000_900_000, "epoch milliseconds"),
        (1_700_000_000_000_000, 1_700_000_900_000_000, "epoch microseconds"),
        (1_700_000_000_000_000_000, 1_700_000_900_000_000_000, "epoch nanoseconds"),
        (0, 1_700_000_000, "relative"),
    ],
)
def test_the_unit_of_time_is_guessed_from_the_span(first, last, unit):
    assert summarize(stream([0, 1], [2, 3], [first, last])).time_unit == unit


def test_labels_are_counted_from_the_most_frequent():
    summary = summarize(stream([0] * 5, [1] * 5, y=torch.tensor([3, 0, 3, 3, 0], dtype=torch.int8)))
    assert list(summary.label_counts.items()) == [(3, 3), (0, 2)]
    assert summarize(stream([0], [1])).label_counts == {}
    many = summarize(stream(range(50), range(50), y=torch.arange(50)))
    assert len(many.label_counts) == 20


def test_sparse_ids_are_summed_up_without_a_row_for_each_and_warned_of():
    summary = summarize(stream([10**15, 3], [2**62, 3]))
    assert summary.num_nodes == 2**62 + 1
    assert summary.num_distinct_nodes == 3
    assert count_nodes(torch.tensor([10**15, 3]), torch.tensor([2**62, 3])) == 3
    assert [warning.split(";")[-1] for warning in summary.warnings] == [" relabel=True numbers them from 0"]


def test_a_stream_numbered_on_both_sides_from_zero_is_warned_of():
    overlapping = summarize(stream([0, 1, 2, 1], [0, 1, 1, 0]))
    assert "pass bipartite=True" in overlapping.warnings[0]
    assert summarize(stream([0, 1, 2, 1], [3, 4, 4, 3])).warnings == ()


def test_instants_that_stand_in_the_way_of_a_split_are_warned_of():
    assert "all events have the same time" in summarize(stream([0, 1], [2, 3], [7, 7])).warnings[0]
    t = [0] * 5 + list(range(1, 20))
    assert "one time holds 5 of 24 events" in summarize(stream([5] * 24, [6] * 24, t)).warnings[0]


@pytest.mark.parametrize("name", ["wikipedia", "collegemsg", "enron", "higgs_activity"])
def test_real_streams_give_no_warnings(shared_data, name):
    assert summarize(load_stream(shared_data / f"{name}.npz")).warnings == ()
