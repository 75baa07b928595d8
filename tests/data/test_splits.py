import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_geometric.data import TemporalData

from pyg_mspipe.data import StreamError, StreamSplit, load_stream, split_stream


def stream_at(times: list[int]) -> TemporalData:
    ids = torch.arange(len(times))
    return TemporalData(src=ids, dst=ids, t=torch.tensor(times), msg=torch.empty(len(times), 0))


def sizes(split: StreamSplit) -> tuple[int, int, int]:
    return len(split.train), len(split.val), len(split.test)


@given(
    times=st.lists(st.integers(0, 9) | st.integers(-(2**24), 2**24), min_size=3, max_size=60).map(sorted),
    val_ratio=st.floats(0.05, 0.45),
    test_ratio=st.floats(0.05, 0.45),
)
def test_fractions_give_the_boundaries_of_pyg(times, val_ratio, test_ratio):
    data = stream_at(times)
    expected = tuple(len(part) for part in data.train_val_test_split(val_ratio, test_ratio))
    assume(all(expected))
    assert sizes(split_stream(data, val_ratio=val_ratio, test_ratio=test_ratio)) == expected


def test_fractions_give_the_boundaries_of_pyg_on_a_real_stream(shared_data):
    data = load_stream(shared_data / "wikipedia.npz")
    expected = tuple(len(part) for part in data.train_val_test_split(0.15, 0.15))
    assert sizes(split_stream(data)) == expected


def test_epoch_milliseconds_are_split_between_neighbouring_milliseconds():
    data = stream_at([1_700_000_000_000 + event for event in range(100)])
    assert sizes(split_stream(data)) == (70, 15, 15)


@given(
    times=st.lists(st.integers(0, 20), min_size=3, max_size=40).map(sorted), bounds=st.tuples(*[st.integers(0, 21)] * 2)
)
def test_times_split_where_they_say_and_ties_stay_together(times, bounds):
    val_time, test_time = sorted(bounds)
    expected = (
        sum(t < val_time for t in times),
        sum(val_time <= t < test_time for t in times),
        sum(t >= test_time for t in times),
    )
    data = stream_at(times)
    if all(expected):
        split = split_stream(data, val_time=val_time, test_time=test_time)
        assert sizes(split) == expected
        assert [*split.train, *split.val, *split.test] == list(range(len(times)))
    else:
        with pytest.raises(StreamError, match="split has no events"):
            split_stream(data, val_time=val_time, test_time=test_time)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_ratio": 0.0}, "val_ratio is 0.0; give a fraction between 0 and 1"),
        ({"test_ratio": 15}, "test_ratio is 15; give a fraction between 0 and 1"),
        ({"val_ratio": float("nan")}, "val_ratio is nan; give a fraction"),
        ({"val_ratio": 0.5, "test_ratio": 0.5}, "val_ratio 0.5 and test_ratio 0.5 leave nothing to train on"),
        ({"val_time": 3}, "val_time is given without test_time"),
        ({"test_time": 3}, "test_time is given without val_time"),
        ({"val_ratio": 0.2, "val_time": 3, "test_time": 5}, "both fractions and times are given"),
        ({"val_time": 5, "test_time": 3}, "val_time 5 lies after test_time 3; swap them"),
        (
            {"val_time": 0, "test_time": 3},
            "the training split has no events: 10 events between times 0 and 9 split into 0",
        ),
        ({"val_time": 3, "test_time": 3}, "the validation split has no events"),
        ({"val_time": 3, "test_time": 10}, "the test split has no events"),
    ],
)
def test_impossible_splits_say_what_is_wrong_and_how_to_mend_it(options, message):
    with pytest.raises(StreamError) as raised:
        split_stream(stream_at(list(range(10))), **options)
    assert str(raised.value).startswith(message)


def test_a_stream_at_one_instant_cannot_be_split():
    with pytest.raises(StreamError, match="the validation split has no events: 9 events between times 7 and 7"):
        split_stream(stream_at([7] * 9))
